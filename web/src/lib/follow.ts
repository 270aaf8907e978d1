/**
 * Follows an answer's events to the end over lines that break: after each break it asks again
 * from the last number it has, waiting longer each time, and stops only when the answer has
 * ended, the server refuses, or the caller aborts.
 */
import type { Api } from './api';
import { ApiError } from './api';
import type { TurnEvent } from './wire';

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

export interface FollowOptions {
  after: number;
  signal: AbortSignal;
  onEvents: (events: TurnEvent[]) => void;
  /** Called with false when the line breaks and with true when it stands again. */
  onLine?: (up: boolean) => void;
  wait?: (ms: number, signal: AbortSignal) => Promise<void>;
}

export async function follow(api: Pick<Api, 'events'>, id: string, options: FollowOptions) {
  const { signal, onEvents, onLine, wait = pause } = options;
  let after = options.after;
  let delay = FIRST_WAIT_MS;
  let ended = false;
  while (!signal.aborted) {
    try {
      for await (const events of api.events(id, after, signal)) {
        onLine?.(true);
        delay = FIRST_WAIT_MS;
        onEvents(events);
        for (const event of events) {
          after = Math.max(after, event.seq);
          // The server may keep the line open for a title; a break does not matter any more.
          if (event.type === 'done' || event.type === 'error') ended = true;
        }
      }
    } catch (error) {
      if (signal.aborted || ended) return;
      // A server that is starting up or busy may be asked again; any other refusal is final.
      if (error instanceof ApiError && error.status < 500 && error.status !== 429) throw error;
    }
    if (signal.aborted || ended) return;
    onLine?.(false);
    await wait(delay, signal);
    delay = Math.min(delay * 2, LONGEST_WAIT_MS);
  }
}

/** Waits, but goes on at once when the network comes back or the caller has had enough. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      removeEventListener('online', finish);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    addEventListener('online', finish);
    signal.addEventListener('abort', finish);
  });
}
