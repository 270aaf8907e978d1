/** The list of conversations in the sidebar: pages of it, and what a search finds. */
import type { Api } from '../api';
import type { ConversationItem } from '../wire';

const SEARCH_DELAY_MS = 200;

export class History {
  readonly #api: Api;
  readonly #onError: (error: unknown) => void;
  #items = $state.raw<ConversationItem[]>([]);
  #next = $state.raw<string | null>(null);
  #query = $state('');
  #answered = $state('');
  #status = $state<'first' | 'loading' | 'ready'>('first');
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Answers that come after a newer question are thrown away. */
  #turn = 0;

  constructor(api: Api, onError: (error: unknown) => void) {
    this.#api = api;
    this.#onError = onError;
  }

  get items(): readonly ConversationItem[] {
    return this.#items;
  }
  get hasMore() {
    return this.#next !== null;
  }
  get query() {
    return this.#query;
  }
  /** The question that the items on the screen answer; the one being typed may be ahead of it. */
  get answered() {
    return this.#answered;
  }
  get status() {
    return this.#status;
  }

  search(query: string) {
    this.#query = query;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.refresh(), SEARCH_DELAY_MS);
  }

  async refresh() {
    const turn = ++this.#turn;
    if (this.#status === 'ready') this.#status = 'loading';
    try {
      const query = this.#query.trim();
      const page = await this.#api.conversations(query, null);
      if (turn !== this.#turn) return;
      this.#answered = query;
      this.#items = page.items;
      this.#next = page.next;
      this.#status = 'ready';
    } catch (error) {
      if (turn === this.#turn && this.#status === 'loading') this.#status = 'ready';
      this.#onError(error);
    }
  }

  async more() {
    if (this.#next === null || this.#status !== 'ready') return;
    const turn = ++this.#turn;
    this.#status = 'loading';
    try {
      const page = await this.#api.conversations(this.#answered, this.#next);
      if (turn !== this.#turn) return;
      const known = new Set(this.#items.map((item) => item.id));
      this.#items = [...this.#items, ...page.items.filter((item) => !known.has(item.id))];
      this.#next = page.next;
    } catch (error) {
      this.#onError(error);
    } finally {
      if (turn === this.#turn) this.#status = 'ready';
    }
  }

  /** Shows a change at once; the server has been told by the caller. */
  put(item: ConversationItem) {
    const rest = this.#items.filter(({ id }) => id !== item.id);
    const old = this.#items.find(({ id }) => id === item.id);
    if (!old && this.#answered !== '') return;
    if (old && old.updated_at === item.updated_at) {
      this.#items = this.#items.map((other) =>
        other.id === item.id ? { ...other, ...item } : other,
      );
    } else {
      this.#items = [item, ...rest];
    }
  }

  title(id: string, title: string) {
    this.#items = this.#items.map((item) => (item.id === id ? { ...item, title } : item));
  }

  drop(id: string) {
    this.#items = this.#items.filter((item) => item.id !== id);
  }

  async rename(id: string, title: string) {
    this.title(id, title);
    try {
      await this.#api.changeConversation(id, { title });
    } catch (error) {
      this.#onError(error);
      await this.refresh();
    }
  }

  async delete(id: string): Promise<boolean> {
    try {
      await this.#api.deleteConversation(id);
      this.drop(id);
      return true;
    } catch (error) {
      this.#onError(error);
      return false;
    }
  }

  async restore(id: string) {
    try {
      await this.#api.restoreConversation(id);
    } catch (error) {
      this.#onError(error);
    }
    await this.refresh();
  }
}
