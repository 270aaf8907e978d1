/**
 * The page as a whole: its stores, made once and joined here, the conversation on the screen
 * and which panel is open. Components get it from their context.
 */
import { createContext } from 'svelte';
import { createApi, Unreachable, type Api } from '../api';
import { errorText } from '../i18n/errors';
import type { ConversationItem, Part } from '../wire';
import { Chat, type ChatHooks } from './chat.svelte';
import { Drafts } from './drafts.svelte';
import { Offers } from './offers.svelte';
import { History } from './history.svelte';
import { isHere, Models } from './models.svelte';
import { Preferences } from './preferences.svelte';
import { Router, type Route } from './router.svelte';
import { Server } from './server.svelte';
import { Toasts } from './toasts.svelte';

/** A browser opens at most six connections to a server: answers in the background get three of them. */
const OPEN_CHATS = 4;

export interface Finding {
  conversationId: string;
  messageId: string;
  query: string;
}

export type Panel = 'models' | 'settings' | 'shortcuts';

export const [useApp, provideApp] = createContext<App>();

export function createApp(api: Api = createApi()): App {
  return new App(api);
}

export class App {
  readonly api: Api;
  readonly preferences = new Preferences();
  readonly toasts = new Toasts();
  readonly router = new Router();
  readonly drafts = new Drafts();
  readonly server: Server;
  readonly models: Models;
  readonly history: History;
  readonly offers: Offers;
  /** Whether the drawer is open on a narrow screen; on a wide one the preference counts. */
  drawer = $state(false);
  panel = $state<Panel | null>(null);
  /** What a search has found and somebody wants to see: where it stands, and the words. */
  finding = $state.raw<Finding | null>(null);
  #chat: Chat;
  #announcement = $state('');
  readonly #chats = new Map<string, Chat>();
  readonly #hooks: ChatHooks;

  constructor(api: Api) {
    this.api = api;
    this.server = new Server(api);
    this.models = new Models(api, () => this.locale, this.report);
    this.history = new History(api, this.report);
    this.#hooks = {
      onError: this.report,
      onCreated: this.#created,
      onTitle: (id, title) => this.history.title(id, title),
      onTouched: (chat) => this.#touched(chat),
      onLineLost: () => void this.server.refresh(),
      onAnswered: (chat, message) => {
        const text = message.parts.map((part) => (part.type === 'text' ? part.text : '')).join('');
        if (chat === this.#chat) this.announce(`${this.t.message.announceDone} ${text}`);
        void this.models.refresh();
      },
      defaultModel: () => this.defaultModel,
      writesTitles: () => this.preferences.modelTitles,
    };
    this.offers = new Offers(this);
    this.#chat = $state.raw(this.#newChat());
    this.server.onBack(() => void this.#fetchAll());
    addEventListener('visibilitychange', () => {
      if (document.visibilityState !== 'visible' || this.server.needsKey) return;
      // Another page may have gone on with it meanwhile.
      void this.history.refresh();
      if (!this.#chat.busy && !this.#chat.streaming) void this.#chat.load();
    });
  }

  get t() {
    return this.preferences.t;
  }
  get locale() {
    return this.preferences.locale;
  }
  get chat(): Chat {
    return this.#chat;
  }
  /** What a screen reader is told about the answer: its beginning and its end, not each word. */
  get announcement() {
    return this.#announcement;
  }

  /** The model for a new chat: the one last chosen here, else the server's own. */
  get defaultModel(): string | null {
    const here = (name: string | null) => {
      const model = this.models.get(name);
      return model && isHere(model) ? model.name : null;
    };
    const { items } = this.models;
    return (
      here(this.preferences.model) ??
      here(this.server.state?.default_model ?? null) ??
      items.find((model) => model.state === 'loaded')?.name ??
      items.find((model) => model.default && isHere(model))?.name ??
      items.find(isHere)?.name ??
      null
    );
  }

  async start() {
    this.preferences.apply();
    if (await this.server.refresh()) await this.#fetchAll();
  }

  async #fetchAll() {
    if (this.server.needsKey) return;
    await Promise.all([
      this.models.refresh(),
      this.history.refresh(),
      ...(this.#chat.streaming || this.#chat.status === 'loading' ? [] : [this.#chat.load()]),
    ]);
  }

  /** Puts the conversation of this address on the screen. */
  show(route: Route) {
    this.drawer = false;
    if (route.kind === 'training') return;
    if (route.kind === 'new') {
      if (this.#chat.id === null) return;
      this.#chat = this.#newChat();
      return;
    }
    if (this.#chat.id === route.id) return;
    let chat = this.#chats.get(route.id);
    if (!chat) {
      chat = new Chat(this.api, this.#hooks, route.id);
      void chat.load();
    } else if (!chat.streaming) void chat.load();
    this.#remember(route.id, chat);
    this.#chat = chat;
  }

  /** Opens a conversation of the sidebar; one that a search has found, at the place where it was found. */
  open(item: ConversationItem, query: string) {
    const { id, message_id: messageId } = item;
    this.drawer = false;
    this.finding = query && messageId ? { conversationId: id, messageId, query } : null;
    this.router.go({ kind: 'conversation', id });
  }

  newChat() {
    this.finding = null;
    this.router.go({ kind: 'new' });
    focusComposer();
  }

  /** Whether training is on the screen, and not a conversation. */
  get isTraining() {
    return this.router.route.kind === 'training';
  }

  openTraining() {
    this.drawer = false;
    this.router.go({ kind: 'training', place: '' });
  }

  /** Errors end here: the line and the session concern the whole page, the rest is told in words. */
  report = (error: unknown) => {
    this.server.notice(error);
    if (error instanceof Unreachable || this.server.needsKey) return;
    this.toasts.show(errorText(error, this.t), { kind: 'error' });
  };

  announce(text: string) {
    this.#announcement = text;
  }

  async deleteConversation(item: ConversationItem) {
    const chat = this.#chats.get(item.id);
    if (!(await this.history.delete(item.id))) return;
    chat?.close();
    this.#chats.delete(item.id);
    if (this.#chat.id === item.id) this.newChat();
    this.toasts.show(this.t.sidebar.deleted(item.title ?? this.t.app.untitled), {
      action: {
        label: this.t.app.undo,
        run: () => {
          void this.history.restore(item.id).then(() => {
            this.router.go({ kind: 'conversation', id: item.id });
          });
        },
      },
    });
  }

  async deleteMessage(chat: Chat, id: string) {
    const undo = await chat.delete(id);
    if (!undo) return;
    this.toasts.show(this.t.message.deleted, {
      action: { label: this.t.app.undo, run: () => void undo() },
    });
  }

  async rename(id: string, title: string) {
    this.#chats.get(id)?.setTitle(title);
    await this.history.rename(id, title);
  }

  isRunning(id: string): boolean {
    return this.#chats.get(id)?.running != null;
  }

  useModel(name: string) {
    this.chat.setModel(name);
    this.preferences.change({ model: name });
  }

  #newChat(): Chat {
    return new Chat(this.api, this.#hooks, null, this.preferences.settings);
  }

  /** Sends the draft of a chat, unless its model cannot read it and another one can: then it asks. */
  async send(chat: Chat, options: { anyway?: boolean } = {}) {
    const draft = this.drafts.of(chat.key);
    if (draft.isEmpty || chat.busy) return;
    // Somebody was quicker than the list of models.
    if (!this.models.known) await this.models.refresh();
    if (draft.isEmpty || chat.busy) return;
    if (chat.model === null) {
      this.panel = 'models';
      return;
    }
    if (!options.anyway && this.offers.asksBeforeSending(chat, draft.text)) return;
    const taken = draft.take();
    const text = taken.text.trim();
    const parts: Part[] = [
      ...taken.files,
      ...(text === '' ? [] : [{ type: 'text' as const, text }]),
    ];
    if (await chat.say(parts)) draft.flush();
    else draft.giveBack(taken);
  }

  /** The conversation is full and the person wants a fresh one: what they wrote comes along. */
  moveToNewChat(chat: Chat, parts: Part[]) {
    chat.dismissFull();
    this.drafts.of(chat.key).take();
    this.drafts.of(chat.key).flush();
    this.newChat();
    this.drafts.of('new').giveBack({
      text: parts.map((part) => (part.type === 'text' ? part.text : '')).join(''),
      files: parts.filter((part) => part.type === 'file'),
    });
  }

  #created = (chat: Chat, id: string) => {
    this.drafts.move('new', id);
    this.#remember(id, chat);
    if (this.#chat === chat) this.router.go({ kind: 'conversation', id }, { replace: true });
  };

  #touched(chat: Chat) {
    if (chat.id === null) return;
    const now = Date.now();
    const old = this.history.items.find((item) => item.id === chat.id);
    this.history.put({
      id: chat.id,
      title: chat.title,
      model: chat.model,
      created_at: old?.created_at ?? now,
      updated_at: now,
    });
    this.announce(this.t.message.announceStart);
  }

  #remember(id: string, chat: Chat) {
    this.#chats.delete(id);
    this.#chats.set(id, chat);
    while (this.#chats.size > OPEN_CHATS) {
      const [oldest] = this.#chats.keys();
      if (oldest === undefined) break;
      this.#chats.get(oldest)?.close();
      this.#chats.delete(oldest);
    }
  }
}

export function focusComposer() {
  requestAnimationFrame(() => document.querySelector<HTMLTextAreaElement>('#composer')?.focus());
}
