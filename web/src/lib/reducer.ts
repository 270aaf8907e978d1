/**
 * One answer on the screen, and how each event of its stream changes it.
 * The same function serves a new stream and one that is picked up again after a reload;
 * an event that was already seen (by its number) changes nothing.
 */
import type { Message, Part, TurnEvent } from './wire';

/** What the server is doing for a running answer before, or while, text comes. */
export type Phase =
  | { kind: 'starting' }
  | { kind: 'queued'; position: number }
  | { kind: 'loading'; fraction: number | null }
  | { kind: 'prefill'; done: number; total: number }
  | { kind: 'reasoning' }
  | { kind: 'writing' };

export interface Answer {
  message: Message;
  phase: Phase | null;
  /** Old turns that were left out of the prompt, told while the answer is still running. */
  dropped: { n_messages: number; n_tokens: number } | null;
  /** When the reasoning began on this page's clock, for the running count of seconds. */
  reasoning_since: number | null;
}

export function answerOf(message: Message): Answer {
  return {
    message,
    phase: message.status === 'running' ? { kind: 'starting' } : null,
    dropped: null,
    reasoning_since: null,
  };
}

export function reduce(answer: Answer, event: TurnEvent, now: number): Answer {
  if (event.seq <= answer.message.last_seq && event.type !== 'done') return answer;
  const seen = { ...answer.message, last_seq: Math.max(event.seq, answer.message.last_seq) };
  switch (event.type) {
    case 'queued':
      return { ...answer, message: seen, phase: { kind: 'queued', position: event.position } };
    case 'loading':
      return {
        ...answer,
        message: seen,
        phase: { kind: 'loading', fraction: fraction(event.progress) },
      };
    case 'prefill':
      return {
        ...answer,
        message: seen,
        phase: { kind: 'prefill', done: event.done, total: event.total },
      };
    case 'reasoning':
      return {
        ...answer,
        message: { ...seen, parts: append(seen.parts, 'reasoning', event.text) },
        phase: { kind: 'reasoning' },
        reasoning_since: answer.reasoning_since ?? now,
      };
    case 'text':
      return {
        ...answer,
        message: {
          ...seen,
          parts: append(
            closeReasoning(seen.parts, answer.reasoning_since, now),
            'text',
            event.text,
          ),
        },
        phase: { kind: 'writing' },
        reasoning_since: null,
      };
    case 'notice':
      return {
        ...answer,
        message: seen,
        dropped: { n_messages: event.n_messages, n_tokens: event.n_tokens },
      };
    case 'title':
      return { ...answer, message: seen };
    case 'done':
      return {
        ...answer,
        message: { ...event.message, last_seq: seen.last_seq },
        phase: null,
        reasoning_since: null,
      };
    case 'error':
      return {
        ...answer,
        message: {
          ...(event.message ?? seen),
          last_seq: seen.last_seq,
          status: 'failed',
          error: { code: event.error.code, message: event.error.message },
        },
        phase: null,
        reasoning_since: null,
      };
  }
}

function fraction(progress: number | { done: number; total: number } | null): number | null {
  if (progress === null) return null;
  if (typeof progress === 'number') return progress;
  return progress.total > 0 ? progress.done / progress.total : null;
}

function append(parts: Part[], type: 'text' | 'reasoning', text: string): Part[] {
  const last = parts.at(-1);
  if (last?.type === type) return [...parts.slice(0, -1), { ...last, text: last.text + text }];
  return [...parts, { type, text }];
}

function closeReasoning(parts: Part[], since: number | null, now: number): Part[] {
  const last = parts.at(-1);
  if (last?.type !== 'reasoning' || since === null || last.seconds != null) return parts;
  return [...parts.slice(0, -1), { ...last, seconds: (now - since) / 1000 }];
}

/** The plain words of a message, as they are copied or edited. */
export function textOf(message: Message): string {
  return message.parts
    .filter((part) => part.type === 'text')
    .map((part) => part.text)
    .join('');
}
