/**
 * The parts of the Markdown machinery, each fetched when first needed. Until one is here,
 * text is shown plain, so nothing waits for it.
 */
import type * as Render from './render';
import type * as Highlight from './highlight';
import type * as Formulas from './formulas';

class Lazy<T> {
  readonly #fetch: () => Promise<T>;
  #value = $state.raw<T | null>(null);
  #asked = false;

  constructor(fetch: () => Promise<T>) {
    this.#fetch = fetch;
  }

  /** The part if it is here; else null, and it is on its way. */
  get value(): T | null {
    if (!this.#value) this.want();
    return this.#value;
  }

  want() {
    if (this.#asked) return;
    this.#asked = true;
    this.#fetch().then(
      (value) => (this.#value = value),
      // The server went away meanwhile: plain text stays, the next block asks again.
      () => (this.#asked = false),
    );
  }
}

export const renderer = new Lazy<typeof Render>(() => import('./render'));
export const highlighter = new Lazy<typeof Highlight>(() => import('./highlight'));
export const formulas = new Lazy<typeof Formulas>(() => import('./formulas'));

/** Fetches the renderer once the page has been painted and has nothing better to do. */
export function warmUp(part: { want: () => void }) {
  const idle = window.requestIdleCallback ?? ((run: () => void) => setTimeout(run, 300));
  idle(() => part.want());
}
