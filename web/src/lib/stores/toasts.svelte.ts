/** Short messages at the edge of the page, some with one thing to do about them. */

export interface Toast {
  id: number;
  text: string;
  kind: 'plain' | 'error';
  action: { label: string; run: () => void } | null;
}

/** Long enough to read and to reach for "undo". */
const SHOWN_MS = 8000;

export class Toasts {
  #items = $state.raw<Toast[]>([]);
  #next = 1;

  get items(): readonly Toast[] {
    return this.#items;
  }

  show(text: string, options: { kind?: Toast['kind']; action?: Toast['action'] } = {}) {
    const toast: Toast = {
      id: this.#next++,
      text,
      kind: options.kind ?? 'plain',
      action: options.action ?? null,
    };
    this.#items = [...this.#items.filter((item) => item.text !== text), toast].slice(-3);
    setTimeout(() => this.dismiss(toast.id), SHOWN_MS);
  }

  dismiss(id: number) {
    this.#items = this.#items.filter((toast) => toast.id !== id);
  }
}
