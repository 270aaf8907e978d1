/**
 * One open conversation: its tree of messages, the branch being read, the answers that are
 * running, and how full the context is. A new chat is one without an id; the server hears
 * of it with the first message.
 */
import { SvelteMap } from 'svelte/reactivity';
import { ApiError, Unreachable, type Api } from '../api';
import { follow } from '../follow';
import { answerOf, reduce, type Answer } from '../reducer';
import { MessageTree, type Node } from '../tree';
import { uuidv7 } from '../uuid';
import type { Conversation, Message, Overflow, Part, Settings, TurnEvent } from '../wire';
import { pause } from './pause';

/** A message has an id of ours, so sending it again cannot say it twice. */
const SEND_TRIES = 4;
const SAVE_SETTINGS_MS = 400;
/** Tokens are put on the screen with the frame; a hidden page has no frames. */
const LONGEST_FRAME_MS = 250;

export interface ChatHooks {
  onError: (error: unknown) => void;
  onCreated: (chat: Chat, id: string) => void;
  onTitle: (id: string, title: string) => void;
  /** Something changed on the server that the sidebar shows. */
  onTouched: (chat: Chat) => void;
  /** The line of an answer broke; it is being picked up again. */
  onLineLost: () => void;
  onAnswered: (chat: Chat, message: Message) => void;
  /** What a chat without a model of its own is answered by. */
  defaultModel: () => string | null;
  /** Whether the model may title a new conversation after its first answer. */
  writesTitles: () => boolean;
}

/** What was refused because the context is full, kept until the person has chosen. */
export interface Full {
  promptTokens: number | null;
  maxTokens: number | null;
  /** Not even an empty history would make room. */
  alone: boolean;
  retry: (overflow: Overflow) => Promise<boolean>;
  parts: Part[] | null;
}

export class Chat {
  readonly #api: Api;
  readonly #hooks: ChatHooks;
  #id = $state.raw<string | null>(null);
  /** Made on the server, but its first message has not been taken yet: nobody is told of it. */
  #pendingId: string | null = null;
  #status = $state<'loading' | 'ready' | 'missing' | 'failed'>('ready');
  #title = $state<string | null>(null);
  #model = $state<string | null>(null);
  #settings = $state.raw<Settings>({});
  #nodes: Node[] = [];
  #tree = $state.raw(new MessageTree([]));
  #leaf = $state.raw<string | null>(null);
  readonly #answers = new SvelteMap<string, Answer>();
  readonly #streams = new Map<string, AbortController>();
  #lineUp = $state(true);
  #sending = $state(false);
  #full = $state.raw<Full | null>(null);
  #meter = $state.raw<{ tokens: number; max: number } | null>(null);
  #saveTimer: ReturnType<typeof setTimeout> | undefined;

  /** Ids of the messages of the branch being read, root first. */
  readonly path: readonly string[] = $derived(this.#tree.path(this.#leaf));
  readonly running: Answer | null = $derived.by(() => {
    const last = this.#leaf === null ? undefined : this.#answers.get(this.#leaf);
    return last?.message.status === 'running' ? last : null;
  });

  constructor(api: Api, hooks: ChatHooks, id: string | null, settings: Settings = {}) {
    this.#api = api;
    this.#hooks = hooks;
    this.#id = id;
    this.#settings = settings;
    if (id !== null) this.#status = 'loading';
  }

  get id() {
    return this.#id;
  }
  get key() {
    return this.#id ?? 'new';
  }
  get status() {
    return this.#status;
  }
  get title() {
    return this.#title;
  }
  get model(): string | null {
    return this.#model ?? this.#hooks.defaultModel();
  }
  get settings(): Settings {
    return this.#settings;
  }
  get leaf() {
    return this.#leaf;
  }
  get lineUp() {
    return this.#lineUp;
  }
  get sending() {
    return this.#sending;
  }
  get busy() {
    return this.#sending || this.running !== null;
  }
  get full() {
    return this.#full;
  }
  get meter() {
    return this.#meter;
  }
  get isEmpty() {
    return this.path.length === 0;
  }
  get streaming() {
    return this.#streams.size > 0;
  }

  answer(id: string): Answer | undefined {
    return this.#answers.get(id);
  }

  versions(id: string): readonly string[] {
    return this.#tree.siblings(id);
  }

  async load() {
    if (this.#id === null) return;
    try {
      this.#take(await this.#api.conversation(this.#id));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) this.#status = 'missing';
      else {
        if (this.#status === 'loading') this.#status = 'failed';
        this.#hooks.onError(error);
      }
    }
  }

  #take(conversation: Conversation) {
    this.#title = conversation.title;
    this.#model = conversation.model;
    this.#settings = conversation.settings;
    this.#nodes = conversation.messages.map(({ id, parent_id }) => ({ id, parent_id }));
    for (const message of conversation.messages) {
      // A stream that is being followed knows more than this snapshot.
      if (!this.#streams.has(message.id)) this.#answers.set(message.id, answerOf(message));
    }
    this.#tree = new MessageTree(this.#nodes);
    const leaf = conversation.active_leaf_id;
    this.#leaf = leaf !== null && this.#tree.has(leaf) ? leaf : this.#tree.newestLeaf();
    this.#status = 'ready';
    for (const message of conversation.messages) {
      if (message.status === 'running') this.#attach(message.id);
    }
  }

  /** Says something; the message is on the screen at once and on the server's disk before this ends. */
  async say(
    parts: Part[],
    parentId: string | null = this.#leaf,
    overflow: Overflow = 'refuse',
  ): Promise<boolean> {
    const before = this.#leaf;
    const id = uuidv7();
    this.#sending = true;
    this.#full = null;
    this.#insert({
      id,
      conversation_id: this.#id ?? '',
      parent_id: parentId,
      role: 'user',
      status: 'complete',
      parts,
      created_at: Date.now(),
      last_seq: 0,
    });
    this.#leaf = id;
    try {
      const model = this.model;
      const conversationId = this.#id ?? (await this.#create());
      const write_title = this.#id === null && this.#hooks.writesTitles();
      const { user, answer } = await this.#patiently(() =>
        this.#api.say(conversationId, {
          id,
          parent_id: parentId,
          parts,
          model,
          overflow,
          write_title,
        }),
      );
      this.#announce(answer);
      // Ours was a stand-in; the server's message has an id of its own.
      this.#remove(id);
      this.#insert(user);
      this.#begin(answer);
      return true;
    } catch (error) {
      this.#remove(id);
      this.#leaf = before;
      if (error instanceof ApiError) await this.#discardPending();
      this.#refused(error, overflow, parts, (choice) => this.say(parts, parentId, choice));
      return false;
    } finally {
      this.#sending = false;
    }
  }

  async regenerate(answerId: string, overflow: Overflow = 'refuse'): Promise<boolean> {
    this.#sending = true;
    this.#full = null;
    try {
      const { answer } = await this.#api.regenerate(answerId, { model: this.model, overflow });
      this.#begin(answer);
      return true;
    } catch (error) {
      this.#refused(error, overflow, null, (choice) => this.regenerate(answerId, choice));
      return false;
    } finally {
      this.#sending = false;
    }
  }

  /** An answer that was stopped, or reached its length limit, goes on where it ended. */
  async goOn(answerId: string) {
    this.#sending = true;
    try {
      const { answer } = await this.#api.goOn(answerId);
      // The stream of its first part may still be open for a title.
      this.#streams.get(answerId)?.abort();
      this.#streams.delete(answerId);
      this.#begin(answer);
    } catch (error) {
      this.#hooks.onError(error);
    } finally {
      this.#sending = false;
    }
  }

  /** Takes a message and all that follows it away; gives back how to undo that. */
  async delete(messageId: string): Promise<(() => Promise<void>) | null> {
    try {
      await this.#api.deleteMessage(messageId);
      await this.load();
    } catch (error) {
      this.#hooks.onError(error);
      return null;
    }
    return async () => {
      try {
        this.#take(await this.#api.restoreMessage(messageId));
      } catch (error) {
        this.#hooks.onError(error);
      }
    };
  }

  async stop() {
    const id = this.running?.message.id;
    if (id === undefined) return;
    try {
      await this.#api.stop(id);
    } catch (error) {
      this.#hooks.onError(error);
    }
  }

  /** Reads another version; the server remembers it as the active branch. */
  select(versionId: string) {
    this.#leaf = this.#tree.leafBelow(versionId);
    this.#full = null;
    this.#save({ active_leaf_id: this.#leaf });
  }

  setModel(name: string) {
    this.#model = name;
    this.#save({ model: name });
  }

  setSettings(settings: Settings) {
    this.#settings = settings;
    clearTimeout(this.#saveTimer);
    this.#saveTimer = setTimeout(() => this.#save({ settings }), SAVE_SETTINGS_MS);
  }

  setTitle(title: string) {
    this.#title = title;
  }

  /** Reads the branch that holds this message; false if there is none any more. */
  reveal(messageId: string): boolean {
    if (!this.#tree.has(messageId)) return false;
    if (!this.path.includes(messageId)) this.select(messageId);
    return true;
  }

  dismissFull() {
    this.#full = null;
  }

  /** Asks how many tokens the branch and this draft take. An unloaded model may not know; then nothing is shown. */
  async count(draft: Part[]) {
    const model = this.model;
    if (model === null) return;
    const leaf = this.#leaf;
    try {
      const { tokens, max_tokens } = await this.#api.count({
        model,
        conversation_id: this.#id,
        leaf_id: leaf,
        parts: draft,
        system_prompt: this.#settings.system_prompt ?? null,
      });
      if (leaf === this.#leaf) this.#meter = { tokens, max: max_tokens };
    } catch {
      this.#meter = null;
    }
  }

  /** Lets go of the streams; the server goes on writing. */
  close() {
    for (const stream of this.#streams.values()) stream.abort();
    this.#streams.clear();
  }

  /**
   * A conversation for the first message. It shows up nowhere before that message is taken, so that
   * a refused one leaves no empty conversation behind.
   */
  async #create(): Promise<string> {
    const values = { model: this.model, settings: this.#settings };
    if (this.#pendingId !== null) {
      try {
        await this.#api.changeConversation(this.#pendingId, values);
        return this.#pendingId;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
      }
    }
    this.#pendingId = (await this.#api.createConversation(values)).id;
    return this.#pendingId;
  }

  /** The first message is on the server's disk: the conversation is one. */
  #announce(answer: Message) {
    if (this.#id !== null) return;
    this.#id = answer.conversation_id;
    this.#pendingId = null;
    this.#model = answer.model ?? this.#model;
    this.#hooks.onCreated(this, answer.conversation_id);
  }

  async #discardPending() {
    const id = this.#pendingId;
    if (id === null) return;
    try {
      await this.#api.deleteConversation(id);
      this.#pendingId = null;
    } catch {
      // The next message takes it.
    }
  }

  async #patiently<T>(call: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof Unreachable) || attempt === SEND_TRIES) throw error;
        await pause(500 * 2 ** attempt);
      }
    }
  }

  #refused(error: unknown, overflow: Overflow, parts: Part[] | null, retry: Full['retry']) {
    const number = (value: unknown) => (typeof value === 'number' ? value : null);
    if (
      error instanceof ApiError &&
      (error.code === 'context_full' || error.code === 'context_length_exceeded')
    ) {
      this.#full = {
        promptTokens: number(error.details['prompt_tokens']),
        maxTokens: number(error.details['max_tokens']),
        alone: overflow === 'drop_oldest' || this.path.length === 0,
        retry,
        parts,
      };
    } else this.#hooks.onError(error);
  }

  #begin(answer: Message) {
    this.#insert(answer);
    this.#leaf = answer.id;
    if (answer.status === 'running') this.#attach(answer.id);
    this.#hooks.onTouched(this);
  }

  #insert(message: Message) {
    this.#answers.set(message.id, answerOf(message));
    if (this.#tree.has(message.id)) return;
    this.#nodes = [...this.#nodes, { id: message.id, parent_id: message.parent_id }];
    this.#tree = new MessageTree(this.#nodes);
  }

  #remove(id: string) {
    this.#nodes = this.#nodes.filter((node) => node.id !== id);
    this.#tree = new MessageTree(this.#nodes);
    this.#answers.delete(id);
  }

  #attach(id: string) {
    if (this.#streams.has(id)) return;
    const stream = new AbortController();
    this.#streams.set(id, stream);
    const pending: TurnEvent[] = [];
    const paint = framed(() => this.#apply(id, pending.splice(0)));
    void follow(this.#api, id, {
      after: this.#answers.get(id)?.message.last_seq ?? 0,
      signal: stream.signal,
      onEvents: (events) => {
        pending.push(...events);
        paint();
      },
      onLine: (up) => {
        if (!up && this.#lineUp) this.#hooks.onLineLost();
        this.#lineUp = up;
      },
    })
      .catch((error: unknown) => {
        this.#hooks.onError(error);
        if (!stream.signal.aborted) void this.load();
      })
      .finally(() => {
        this.#lineUp = true;
        if (this.#streams.get(id) === stream) this.#streams.delete(id);
      });
  }

  #apply(id: string, events: TurnEvent[]) {
    const before = this.#answers.get(id);
    if (!before || events.length === 0) return;
    const now = performance.now();
    const after = events.reduce((answer, event) => reduce(answer, event, now), before);
    this.#answers.set(id, after);
    for (const event of events) {
      if (event.type === 'title' && this.#id !== null) {
        this.#title = event.title;
        this.#hooks.onTitle(this.#id, event.title);
      }
    }
    if (before.message.status === 'running' && after.message.status !== 'running') {
      this.#hooks.onAnswered(this, after.message);
    }
  }

  #save(values: Parameters<Api['changeConversation']>[1]) {
    if (this.#id === null) return;
    this.#api.changeConversation(this.#id, values).catch(this.#hooks.onError);
  }
}

/** Runs `work` with the next frame, or soon when there is none; calls in between are joined. */
function framed(work: () => void): () => void {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    const run = () => {
      if (!waiting) return;
      waiting = false;
      clearTimeout(timer);
      cancelAnimationFrame(frame);
      work();
    };
    const frame = requestAnimationFrame(run);
    const timer = setTimeout(run, LONGEST_FRAME_MS);
  };
}
