import { expect, test } from 'vitest';
import { ApiError, Unreachable } from './api';
import { follow } from './follow';
import type { TurnEvent } from './wire';

const text = (seq: number): TurnEvent => ({ seq, type: 'text', text: String(seq) });
const failed = (seq: number): TurnEvent => ({
  seq,
  type: 'error',
  error: { code: 'x', message: 'x' },
});

function line(script: (TurnEvent[] | Error)[][]) {
  const asked: number[] = [];
  return {
    asked,
    async *events(_id: string, after: number): AsyncGenerator<TurnEvent[]> {
      asked.push(after);
      for (const step of script.shift() ?? []) {
        if (step instanceof Error) throw step;
        yield step;
      }
    },
  };
}

test('a broken line is picked up after the last event that came', async () => {
  const api = line([[[text(1), text(2)], new Unreachable()], [], [[text(3)], [failed(4)]]]);
  const seen: number[] = [];
  const waits: number[] = [];
  const up: boolean[] = [];
  await follow(api, 'm', {
    after: 0,
    signal: new AbortController().signal,
    onEvents: (events) => seen.push(...events.map((event) => event.seq)),
    onLine: (state) => up.push(state),
    wait: async (ms) => void waits.push(ms),
  });
  expect(api.asked).toEqual([0, 2, 2]);
  expect(seen).toEqual([1, 2, 3, 4]);
  expect(waits).toEqual([500, 1000]);
  expect(up).toEqual([true, false, false, true, true]);
});

test('what comes after the end is heard, and a break then is none', async () => {
  const api = line([
    [[text(1), failed(2)], [{ seq: 3, type: 'title', title: 't' }], new Unreachable()],
  ]);
  const seen: number[] = [];
  const up: boolean[] = [];
  await follow(api, 'm', {
    after: 0,
    signal: new AbortController().signal,
    onEvents: (events) => seen.push(...events.map((event) => event.seq)),
    onLine: (state) => up.push(state),
    wait: () => Promise.reject(new Error('waited')),
  });
  expect(seen).toEqual([1, 2, 3]);
  expect(up).not.toContain(false);
});

test('a refusal is final', async () => {
  const api = line([[new ApiError(404, 'not_found', 'gone')]]);
  const end = follow(api, 'm', {
    after: 0,
    signal: new AbortController().signal,
    onEvents: () => undefined,
  });
  await expect(end).rejects.toThrow('gone');
});

test('nothing is asked again once the caller has had enough', async () => {
  const stop = new AbortController();
  const api = line([[[text(1)]]]);
  await follow(api, 'm', {
    after: 0,
    signal: stop.signal,
    onEvents: () => stop.abort(),
    wait: () => Promise.reject(new Error('waited')),
  });
  expect(api.asked).toEqual([0]);
});
