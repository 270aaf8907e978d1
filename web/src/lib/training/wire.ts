/** What the server says and hears about training (`/api/training`, JSON, snake_case; times in milliseconds). */

/** `recipe`: several of the others, one after the other. */
export type Stage = 'pretrain' | 'sft' | 'dpo' | 'recipe';
export type DataKind = 'text' | 'conversations' | 'pairs';

export interface Setting {
  key: string;
  kind: string;
  /** Null: the program decides. */
  default: SettingValue | null;
  min?: number | null;
  max?: number | null;
  choices?: string[] | null;
}

export type SettingValue = string | number | boolean | string[];
export type SettingValues = Record<string, SettingValue>;

export interface Recipe {
  id: string;
  stage: Stage;
  needs_base: boolean;
  /** Null where the recipe makes or brings its own. */
  data: DataKind | null;
  settings: Setting[];
}

export interface DataFile {
  name: string;
  bytes: number;
}

export interface Dataset {
  name: string;
  n_files: number;
  bytes: number;
  created_at: number;
  files: DataFile[];
}

/** A piece of text and whether the model learns to say it. */
export interface MaskedToken {
  text: string;
  trained: boolean;
}

export interface Sample {
  source: string;
  /** Which of a pair's answers it is. */
  title?: string | null;
  record?: number | null;
  /** Of the whole record, where only its beginning is told. */
  n_tokens?: number | null;
  tokens: MaskedToken[];
}

export interface Preview {
  items: Sample[];
  next_offset?: number | null;
}

export type PlanValue = string | number | boolean | null;

export interface Plan {
  lines: { key: string; value: PlanValue; unit?: string | null }[];
  n_steps?: number | null;
  seconds?: number | null;
  memory_bytes?: number | null;
}

export type RunStatus =
  | 'queued'
  | 'preparing'
  | 'running'
  | 'pausing'
  | 'paused'
  | 'done'
  | 'stopped'
  | 'failed'
  | 'lost';

export interface Progress {
  step: number;
  n_steps: number;
  loss?: number | null;
  bits_per_byte?: number | null;
  tokens_per_second?: number | null;
  seconds_left?: number | null;
  memory_bytes?: number | null;
  /** Of the whole machine, 0 to 1. */
  cpu_share?: number | null;
  n_tokens?: number | null;
}

export interface Ancestor {
  kind: string;
  id?: string | null;
  /** Of data that the recipe makes there is none. */
  name?: string | null;
  recipe?: string | null;
  n_files?: number | null;
  bytes?: number | null;
}

export interface Run {
  id: string;
  name: string;
  recipe: string;
  stage: Stage;
  dataset: string | null;
  base?: string | null;
  settings: SettingValues;
  status: RunStatus;
  reason?: string | null;
  exit_code?: number | null;
  created_at: number;
  started_at?: number | null;
  ended_at?: number | null;
  folder: string;
  command: string[];
  progress?: Progress | null;
  /** In their order, where it is more than one; each has a course of its own. */
  stages?: { name: Stage; has_begun: boolean }[];
  /** What the finished model got in the tests that come with its recipe. */
  results?: TestResult[];
  /** Its name in the chat, once it was asked for. */
  model?: { path: string; kind: 'model' | 'adapter'; bytes: number; name?: string | null } | null;
  /** What it came from, the nearest first. */
  lineage?: Ancestor[] | null;
}

/** A share of right answers, and where it lies with a confidence of 95 %. */
export interface TestResult {
  task: string;
  metric: string;
  n: number;
  value: number;
  low: number | null;
  high: number | null;
}

/** A line of a run's log. Numbers that are not finite arrive as null. */
export type LogEvent =
  | { event: 'resumed'; step: number }
  | {
      event: 'step';
      step: number;
      loss: number | null;
      rate: number | null;
      grad_norm: number | null;
      n_tokens: number;
      epochs: number;
      tokens_per_second: number | null;
      seconds: number;
    }
  | { event: 'left_out'; step: number; reason: string }
  | { event: 'rolled_back'; step: number; reason: string }
  | ({ event: 'evaluated' } & Evaluation)
  | ({ event: 'sample' } & ModelSample)
  | { event: 'saved'; step: number }
  | { event: 'stopped_early'; step: number; best_step: number }
  | { event: 'done'; step: number; seconds: number };

export interface Evaluation {
  step: number;
  loss: number | null;
  bits_per_byte?: number | null;
  accuracy?: number | null;
  is_best: boolean;
}

export interface ModelSample {
  step: number;
  prompt: string;
  text: string;
}

export interface Note {
  step: number;
  kind: string;
  reason?: string | null;
}

export interface Series {
  /** Whose course it is, in a run of several stages. */
  stage?: Stage | null;
  steps: number[];
  loss: (number | null)[];
  rate: (number | null)[];
  grad_norm: (number | null)[];
  tokens_per_second: (number | null)[];
  n_tokens?: number[] | null;
  seconds?: number[] | null;
  evaluations: Evaluation[];
  samples: ModelSample[];
  notes: Note[];
  /** Lines of the log that are in here: the events go on behind them. */
  n_lines: number;
}

export interface RunRequest {
  recipe: string;
  name: string;
  dataset: string | null;
  base?: string;
  settings: SettingValues;
}

export type PlanRequest = Omit<RunRequest, 'name'>;

/** What a run's stream brings. */
export type RunEvent =
  | { type: 'log'; id: number; event: LogEvent }
  | { type: 'run'; run: Run }
  /** The log is not the one any more whose lines were told: a run that goes on cuts off what it had beyond. */
  | { type: 'reset' }
  | { type: 'end' };

/** Whether something of this run is going on or about to. */
export function isGoing(status: RunStatus): boolean {
  return (
    status === 'queued' || status === 'preparing' || status === 'running' || status === 'pausing'
  );
}

/** Whether it can be taken up where it was left. */
export function canResume(status: RunStatus): boolean {
  return status === 'paused' || status === 'stopped' || status === 'failed' || status === 'lost';
}
