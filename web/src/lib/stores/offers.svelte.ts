/**
 * When the model does not speak the language of the page or of the message, one that does is
 * offered: one click fetches it, loads it, and sends what was waiting.
 */
import { baseLanguage, languageOf, speakerOf, speaks } from '../languages';
import type { Model } from '../wire';
import type { App } from './app.svelte';
import type { Chat } from './chat.svelte';

export interface Offer {
  reason: 'page' | 'message';
  language: string;
  model: Model;
  speaker: Model;
}

export interface Work {
  name: string;
  chat: Chat;
  thenSends: boolean;
  failed: boolean;
}

export class Offers {
  readonly #app: App;
  #asked = $state.raw<{ chat: Chat; offer: Offer } | null>(null);
  #work = $state.raw<Work | null>(null);
  readonly #anyway = new WeakSet<Chat>();

  constructor(app: App) {
    this.#app = app;
  }

  get work() {
    return this.#work;
  }

  /** What to offer in this chat just now, if anything. */
  of(chat: Chat): Offer | null {
    if (this.#work?.chat === chat) return null;
    if (this.#asked?.chat === chat && this.#asked.offer.model.name === chat.model) {
      return this.#asked.offer;
    }
    const language = baseLanguage(this.#app.locale);
    if (this.#app.preferences.declined.includes(`${language}:${chat.model}`)) return null;
    return this.#offer(chat, language, 'page');
  }

  /** True when the person must first choose; the draft stays where it is. */
  asksBeforeSending(chat: Chat, text: string): boolean {
    if (this.#anyway.has(chat) || this.#work?.chat === chat) return false;
    const language = languageOf(text);
    const offer = language === null ? null : this.#offer(chat, language, 'message');
    this.#asked = offer && { chat, offer };
    return offer !== null;
  }

  async accept(chat: Chat, offer: Offer) {
    const work: Work = {
      name: offer.speaker.name,
      chat,
      thenSends: offer.reason === 'message',
      failed: false,
    };
    this.#asked = null;
    this.#work = work;
    const ready = await this.#app.models.prepare(work.name);
    if (this.#work !== work) return;
    if (!ready) {
      this.#work = { ...work, failed: true };
      return;
    }
    this.#work = null;
    chat.setModel(work.name);
    this.#app.preferences.change({ model: work.name });
    if (work.thenSends) await this.#app.send(chat, { anyway: true });
  }

  decline(chat: Chat, offer: Offer) {
    this.#asked = null;
    const { preferences } = this.#app;
    const key = `${baseLanguage(offer.language)}:${offer.model.name}`;
    if (!preferences.declined.includes(key)) {
      preferences.change({ declined: [...preferences.declined, key] });
    }
    if (offer.reason === 'message') {
      this.#anyway.add(chat);
      void this.#app.send(chat, { anyway: true });
    }
  }

  cancel() {
    const work = this.#work;
    this.#work = null;
    if (work && this.#app.models.get(work.name)?.state === 'downloading') {
      void this.#app.models.cancelPull(work.name);
    }
  }

  #offer(chat: Chat, language: string, reason: Offer['reason']): Offer | null {
    const { models } = this.#app;
    const model = models.get(chat.model);
    if (!model || speaks(model, language)) return null;
    const speaker = speakerOf(models.items, language);
    return speaker && speaker.name !== model.name ? { reason, language, model, speaker } : null;
  }
}
