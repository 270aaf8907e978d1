/**
 * What is being written but not yet sent, one draft per conversation.
 * The words survive a reload; attached files live as long as the page.
 */
import type { FilePart } from '../wire';

const PREFIX = 'daybreak.draft.';
const SAVE_MS = 300;

export class Draft {
  #key: string;
  #text = $state('');
  files = $state.raw<FilePart[]>([]);
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(key: string) {
    this.#key = PREFIX + key;
    this.#text = readItem(this.#key);
  }

  get text() {
    return this.#text;
  }
  set text(value: string) {
    this.#text = value;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.flush(), SAVE_MS);
  }
  get isEmpty() {
    return this.#text.trim() === '' && this.files.length === 0;
  }

  /**
   * Empties the draft on the screen but not yet in storage: until the server has the message
   * (`flush`), a page that dies must still find the words here.
   */
  take(): { text: string; files: FilePart[] } {
    clearTimeout(this.#timer);
    const taken = { text: this.#text, files: this.files };
    this.#text = '';
    this.files = [];
    return taken;
  }

  /** Puts back what could not be sent, before anything written since. */
  giveBack(taken: { text: string; files: FilePart[] }) {
    this.text = this.#text === '' ? taken.text : `${taken.text}\n${this.#text}`;
    this.files = [...taken.files, ...this.files];
  }

  /** A new chat has got its id: its draft goes along, on the screen and in storage. */
  rename(key: string) {
    const saved = readItem(this.#key);
    try {
      localStorage.removeItem(this.#key);
      if (saved !== '') localStorage.setItem(PREFIX + key, saved);
    } catch {
      // As in flush.
    }
    this.#key = PREFIX + key;
  }

  flush() {
    clearTimeout(this.#timer);
    try {
      if (this.#text === '') localStorage.removeItem(this.#key);
      else localStorage.setItem(this.#key, this.#text);
    } catch {
      // Storage is full or closed: the draft lives as long as the page.
    }
  }
}

export class Drafts {
  readonly #drafts = new Map<string, Draft>();

  constructor() {
    addEventListener('pagehide', () => {
      for (const draft of this.#drafts.values()) draft.flush();
    });
  }

  move(from: string, to: string) {
    const draft = this.#drafts.get(from);
    if (!draft) return;
    this.#drafts.delete(from);
    this.#drafts.set(to, draft);
    draft.rename(to);
  }

  of(key: string): Draft {
    let draft = this.#drafts.get(key);
    if (!draft) {
      draft = new Draft(key);
      this.#drafts.set(key, draft);
    }
    return draft;
  }
}

function readItem(key: string): string {
  try {
    return localStorage.getItem(key) ?? '';
  } catch {
    return '';
  }
}
