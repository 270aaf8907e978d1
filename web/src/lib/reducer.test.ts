import { describe, expect, test } from 'vitest';
import { answerOf, reduce, textOf } from './reducer';
import type { Message, TurnEvent } from './wire';

const message: Message = {
  id: 'm',
  conversation_id: 'c',
  parent_id: 'u',
  role: 'assistant',
  status: 'running',
  parts: [],
  created_at: 0,
  last_seq: 0,
};

function run(events: TurnEvent[], from = answerOf(message)) {
  return events.reduce((answer, event, i) => reduce(answer, event, i * 1000), from);
}

describe('a running answer', () => {
  test('text grows one part and remembers the last number', () => {
    const answer = run([
      { seq: 1, type: 'prefill', done: 5, total: 10 },
      { seq: 2, type: 'text', text: 'Hel' },
      { seq: 3, type: 'text', text: 'lo' },
    ]);
    expect(answer.message.parts).toEqual([{ type: 'text', text: 'Hello' }]);
    expect(answer.message.last_seq).toBe(3);
    expect(answer.phase).toEqual({ kind: 'writing' });
  });

  test('an event seen before changes nothing, so a picked-up stream may overlap', () => {
    const first = run([{ seq: 1, type: 'text', text: 'a' }]);
    expect(run([{ seq: 1, type: 'text', text: 'a' }], first)).toBe(first);
  });

  test('reasoning stands in its own part and gets its seconds when the text begins', () => {
    const answer = run([
      { seq: 1, type: 'reasoning', text: 'hm' },
      { seq: 2, type: 'reasoning', text: 'm' },
      { seq: 3, type: 'text', text: 'Yes' },
    ]);
    expect(answer.message.parts).toEqual([
      { type: 'reasoning', text: 'hmm', seconds: 2 },
      { type: 'text', text: 'Yes' },
    ]);
    expect(textOf(answer.message)).toBe('Yes');
  });

  test('the end replaces it by what the server saved', () => {
    const saved: Message = {
      ...message,
      status: 'complete',
      parts: [{ type: 'text', text: 'Hi.' }],
    };
    const answer = run([
      { seq: 1, type: 'text', text: 'Hi' },
      { seq: 2, type: 'done', message: saved },
    ]);
    expect(answer.message).toEqual({ ...saved, last_seq: 2 });
    expect(answer.phase).toBeNull();
  });

  test('a failure keeps the words that came', () => {
    const answer = run([
      { seq: 1, type: 'text', text: 'Once' },
      { seq: 2, type: 'error', error: { code: 'engine_failed', message: 'x' } },
    ]);
    expect(textOf(answer.message)).toBe('Once');
    expect(answer.message.status).toBe('failed');
    expect(answer.message.error?.code).toBe('engine_failed');
  });

  test('left-out turns are told while it still runs', () => {
    const answer = run([
      { seq: 1, type: 'notice', code: 'dropped_turns', n_tokens: 90, n_messages: 2 },
    ]);
    expect(answer.dropped).toEqual({ n_messages: 2, n_tokens: 90 });
  });
});
