/**
 * What the server says and hears, field for field (`/api`, JSON, snake_case).
 * Times are milliseconds since 1970.
 * `TurnEvent` is the one union that carries an answer from the server to the screen.
 */

export interface ErrorBody {
  message: string;
  code: string;
  type?: string;
  param?: string | null;
}

/** Before sign-in only the version and `auth` are told. */
export interface ServerState {
  version: string;
  auth: { required: boolean; signed_in: boolean };
  isa?: string;
  n_threads?: number;
  memory?: { total_bytes: number; available_bytes: number };
  default_model?: string | null;
  ctx?: number;
  /** What holds where a conversation chooses nothing. */
  settings_defaults?: Settings;
  started_at?: number;
}

export type ModelState =
  'available' | 'downloading' | 'downloaded' | 'loading' | 'loaded' | 'failed';

export interface ModelProgress {
  done: number;
  total: number;
  bytes_per_second?: number | null;
  phase?: string | null;
}

export interface Model {
  name: string;
  title: string;
  architecture?: string | null;
  parameters?: number | null;
  quant?: string | null;
  file_size?: number | null;
  license?: string | null;
  languages: string[];
  context_length?: number | null;
  origin?: string | null;
  state: ModelState;
  progress?: ModelProgress | null;
  error?: { code: string; message: string } | null;
  memory_needed?: number | null;
  fits?: boolean | null;
  recommended?: boolean;
  gated?: boolean;
  unverified?: boolean;
  reasoning?: { supported: boolean; can_disable: boolean } | null;
  warnings?: { code: string; message: string }[];
  default?: boolean;
}

export interface Settings {
  system_prompt?: string | null;
  temperature?: number | null;
  top_p?: number | null;
  top_k?: number | null;
  min_p?: number | null;
  repeat_penalty?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  seed?: number | null;
  max_tokens?: number | null;
  reasoning?: boolean | null;
}

export interface ConversationItem {
  id: string;
  title: string | null;
  model: string | null;
  created_at: number;
  updated_at: number;
  snippet?: string | null;
  /** The message in which a search found its words. */
  message_id?: string | null;
}

export type Part =
  | { type: 'text'; text: string }
  | { type: 'reasoning'; text: string; seconds?: number | null }
  | {
      type: 'file';
      name: string;
      media_type: string;
      text: string;
      tokens?: number | null;
      size: number;
    };

export type FilePart = Extract<Part, { type: 'file' }>;

export interface Receipt {
  model: {
    name: string;
    sha256: string | null;
    template_hash?: string | null;
    adapters?: { name: string; sha256: string | null; scale: number }[];
  };
  build: { version: string; commit?: string | null };
  isa: string;
  settings: Record<string, unknown>;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  reasoning_tokens?: number;
  kept?: { n_messages: number } | null;
  dropped?: { n_messages: number; n_tokens: number } | null;
  finish_reason: string;
  time_to_first_token_ms?: number | null;
  tokens_per_second?: number | null;
  prefill_tokens_per_second?: number | null;
  queue_ms?: number | null;
}

export type MessageStatus = 'complete' | 'running' | 'stopped' | 'failed';

export interface Message {
  id: string;
  conversation_id: string;
  parent_id: string | null;
  role: 'user' | 'assistant';
  status: MessageStatus;
  parts: Part[];
  model?: string | null;
  created_at: number;
  error?: { code: string; message: string } | null;
  receipt?: Receipt | null;
  last_seq: number;
}

export interface ConversationHead {
  id: string;
  title: string | null;
  title_is_auto: boolean;
  model: string | null;
  settings: Settings;
  active_leaf_id: string | null;
  created_at: number;
  updated_at: number;
}

export interface Conversation extends ConversationHead {
  messages: Message[];
}

export type TurnEvent = { seq: number } & (
  | { type: 'queued'; position: number }
  | { type: 'loading'; progress: number | ModelProgress | null }
  | { type: 'prefill'; done: number; total: number }
  | { type: 'text'; text: string }
  | { type: 'reasoning'; text: string }
  | { type: 'notice'; code: 'dropped_turns'; n_tokens: number; n_messages: number }
  | { type: 'title'; title: string }
  | { type: 'done'; message: Message }
  | { type: 'error'; error: ErrorBody; message?: Message }
);

export type Overflow = 'refuse' | 'drop_oldest';
