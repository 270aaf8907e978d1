/**
 * Every call to the server, in one place. A refusal becomes an `ApiError` that carries the
 * server's own code; a server that cannot be reached becomes `Unreachable`.
 */
import { EventStreamParser, type ServerSentEvent } from './sse';
import type {
  Conversation,
  ConversationHead,
  ConversationItem,
  ErrorBody,
  Message,
  Model,
  Overflow,
  Part,
  ServerState,
  Settings,
  TurnEvent,
} from './wire';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly details: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

export class Unreachable extends Error {
  readonly code = 'unreachable';
}

/** No plain call may hang: after this long the server counts as out of reach. */
const CALL_TIMEOUT_MS = 30_000;
/** The server sends a comment at least every 15 s; three missed ones mean a dead line. */
const STREAM_SILENCE_MS = 45_000;

export interface NewMessage {
  id: string;
  parent_id: string | null;
  parts: Part[];
  model: string | null;
  overflow: Overflow;
  write_title: boolean;
}

export type CountRequest =
  | { model: string | null; text: string }
  | {
      model: string | null;
      conversation_id: string | null;
      leaf_id: string | null;
      parts: Part[];
      system_prompt?: string | null;
    };

export type Api = ReturnType<typeof createApi>;
export type Call = Api['call'];

export function createApi(fetcher: typeof fetch = (...args) => fetch(...args)) {
  async function send(
    method: string,
    path: string,
    body?: unknown,
    signal: AbortSignal = AbortSignal.timeout(CALL_TIMEOUT_MS),
  ): Promise<Response> {
    const init: RequestInit = { method, signal };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers = { 'content-type': 'application/json' };
    }
    let response: Response;
    try {
      response = await fetcher(path, init);
    } catch (cause) {
      throw new Unreachable('the server cannot be reached', { cause });
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }

  async function json<T>(
    method: string,
    path: string,
    body?: unknown,
    signal?: AbortSignal,
  ): Promise<T> {
    const response = await send(method, path, body, signal);
    return (await response.json()) as T;
  }

  /** A stream of events, in the batches in which the network brings them, until it ends or breaks off. */
  async function* stream(
    path: string,
    signal: AbortSignal,
    headers: Record<string, string> = {},
  ): AsyncGenerator<ServerSentEvent[]> {
    const silence = new AbortController();
    let response: Response;
    let watch = setTimeout(() => silence.abort(), STREAM_SILENCE_MS);
    try {
      response = await fetcher(path, {
        headers: { accept: 'text/event-stream', ...headers },
        signal: AbortSignal.any([signal, silence.signal]),
      });
      if (!response.ok) throw await refusal(response);
      if (!response.body) throw new Unreachable('the stream has no body');
      const parser = new EventStreamParser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(watch);
        watch = setTimeout(() => silence.abort(), STREAM_SILENCE_MS);
        const events = parser.push(value);
        if (events.length > 0) yield events;
      }
    } catch (cause) {
      if (cause instanceof ApiError || cause instanceof Unreachable) throw cause;
      throw new Unreachable('the stream broke off', { cause });
    } finally {
      clearTimeout(watch);
      silence.abort();
    }
  }

  const model = (name: string) => `/api/models/${encodeURIComponent(name)}`;
  const conversation = (id: string) => `/api/conversations/${encodeURIComponent(id)}`;
  const message = (id: string) => `/api/messages/${encodeURIComponent(id)}`;

  return {
    state: () => json<ServerState>('GET', '/api/state'),
    signIn: (key: string) => send('POST', '/api/session', { key }),
    signOut: () => send('DELETE', '/api/session'),

    /** The language decides what is recommended. */
    models: async (language: string) =>
      (await json<{ items: Model[] }>('GET', `/api/models?language=${language}`)).items,
    pull: (name: string) => send('POST', `${model(name)}/pull`),
    cancelPull: (name: string) => send('DELETE', `${model(name)}/pull`),
    load: (name: string) => send('POST', `${model(name)}/load`),
    removeModel: (name: string) => send('DELETE', model(name)),

    conversations: (query: string, before: string | null, limit = 50) => {
      const search = new URLSearchParams({ limit: String(limit) });
      if (query !== '') search.set('q', query);
      if (before !== null) search.set('before', before);
      return json<{ items: ConversationItem[]; next: string | null }>(
        'GET',
        `/api/conversations?${search}`,
      );
    },
    createConversation: (values: { model: string | null; settings: Settings }) =>
      json<Conversation>('POST', '/api/conversations', values),
    conversation: (id: string) => json<Conversation>('GET', conversation(id)),
    changeConversation: (
      id: string,
      values: Partial<Pick<ConversationHead, 'title' | 'model' | 'settings' | 'active_leaf_id'>>,
    ) => send('PATCH', conversation(id), values),
    deleteConversation: (id: string) => send('DELETE', conversation(id)),
    restoreConversation: (id: string) => send('POST', `${conversation(id)}/restore`),

    say: (conversationId: string, values: NewMessage) =>
      json<{ user: Message; answer: Message }>(
        'POST',
        `${conversation(conversationId)}/messages`,
        values,
      ),
    regenerate: (id: string, values: { model: string | null; overflow: Overflow }) =>
      json<{ answer: Message }>('POST', `${message(id)}/regenerate`, values),
    goOn: (id: string) => json<{ answer: Message }>('POST', `${message(id)}/continue`, {}),
    deleteMessage: (id: string) => send('DELETE', message(id)),
    restoreMessage: (id: string) => json<Conversation>('POST', `${message(id)}/restore`),
    stop: (id: string) => send('POST', `${message(id)}/stop`),

    count: (values: CountRequest) =>
      json<{ tokens: number; max_tokens: number }>('POST', '/api/count', values),

    exportConversation: (id: string) => send('GET', `${conversation(id)}/export`),
    exportAll: () => send('GET', '/api/export'),
    importAll: (file: unknown) => json<{ imported: number }>('POST', '/api/import', file),

    /** The events of an answer after number `after`, in the batches in which the network brings them. */
    async *events(id: string, after: number, signal: AbortSignal): AsyncGenerator<TurnEvent[]> {
      for await (const events of stream(`${message(id)}/events?after=${after}`, signal))
        yield events.map((event) => event.data as TurnEvent);
    },

    /** For the calls of pages that are fetched later. */
    call: { send, json, stream },
  };
}

async function refusal(response: Response): Promise<ApiError> {
  try {
    const body = (await response.json()) as { error?: ErrorBody & Record<string, unknown> };
    if (body.error) {
      return new ApiError(response.status, body.error.code, body.error.message, body.error);
    }
  } catch {
    // Not JSON: a proxy in between, perhaps. The status is all we know.
  }
  return new ApiError(response.status, `http_${response.status}`, `HTTP ${response.status}`);
}
