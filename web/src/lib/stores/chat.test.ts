// @vitest-environment jsdom
import { flushSync } from 'svelte';
import { expect, test, vi } from 'vitest';
import { ApiError, Unreachable, type Api } from '../api';
import type { Conversation, Message, TurnEvent } from '../wire';
import { Chat, type ChatHooks } from './chat.svelte';

const message = (id: string, parent_id: string | null, more: Partial<Message> = {}): Message => ({
  id,
  conversation_id: 'c',
  parent_id,
  role: 'user',
  status: 'complete',
  parts: [{ type: 'text', text: id }],
  created_at: 0,
  last_seq: 0,
  ...more,
});
const running = message('a', 'u', { role: 'assistant', status: 'running', parts: [] });

function chatWith(api: Partial<Api>, id: string | null = 'c') {
  const hooks: ChatHooks = {
    onError: vi.fn(),
    onCreated: vi.fn(),
    onTitle: vi.fn(),
    onTouched: vi.fn(),
    onLineLost: vi.fn(),
    onAnswered: vi.fn(),
    defaultModel: () => 'm',
    writesTitles: () => true,
  };
  return { hooks, chat: new Chat(api as Api, hooks, id) };
}

async function* stream(...events: TurnEvent[]): AsyncGenerator<TurnEvent[]> {
  yield events;
}

const say = [{ type: 'text' as const, text: 'hello' }];

test('what is said stands on the screen before the server has answered', async () => {
  let answer: (value: { user: Message; answer: Message }) => void = () => undefined;
  const server = new Promise<{ user: Message; answer: Message }>((resolve) => (answer = resolve));
  const { chat } = chatWith({
    say: () => server,
    events: () => stream({ seq: 1, type: 'done', message: { ...running, status: 'complete' } }),
  });
  const said = chat.say(say);
  expect(chat.path).toHaveLength(1);
  expect(chat.busy).toBe(true);
  answer({ user: message('u', null), answer: running });
  expect(await said).toBe(true);
  expect(chat.path).toEqual(['u', 'a']);
});

test('a message that the server refuses is taken back and reported', async () => {
  const { chat, hooks } = chatWith({
    say: () => Promise.reject(new ApiError(400, 'invalid_value', 'no')),
  });
  expect(await chat.say(say)).toBe(false);
  expect(chat.path).toEqual([]);
  expect(hooks.onError).toHaveBeenCalledOnce();
});

test('a refused first message leaves no conversation behind', async () => {
  const made: string[] = [];
  const deleted: string[] = [];
  let refuses = true;
  const { chat, hooks } = chatWith(
    {
      createConversation: async () => {
        made.push(`c${made.length + 1}`);
        return { id: made.at(-1) ?? '' } as Conversation;
      },
      deleteConversation: async (id) => {
        deleted.push(id);
        return new Response();
      },
      say: (id) =>
        refuses
          ? Promise.reject(new ApiError(429, 'too_many_answers', 'busy'))
          : Promise.resolve({
              user: message('u', null, { conversation_id: id }),
              answer: { ...running, conversation_id: id },
            }),
      events: () => stream({ seq: 1, type: 'done', message: { ...running, status: 'complete' } }),
    },
    null,
  );
  expect(await chat.say(say)).toBe(false);
  expect(deleted).toEqual(['c1']);
  expect(chat.id).toBeNull();
  expect(hooks.onCreated).not.toHaveBeenCalled();
  expect(hooks.onTouched).not.toHaveBeenCalled();
  refuses = false;
  expect(await chat.say(say)).toBe(true);
  expect(chat.id).toBe('c2');
  expect(hooks.onCreated).toHaveBeenCalledExactlyOnceWith(chat, 'c2');
  expect(deleted).toEqual(['c1']);
});

test('only the first message lets the model write a title', async () => {
  const asked: boolean[] = [];
  const { chat } = chatWith(
    {
      createConversation: async () => ({ id: 'c' }) as Conversation,
      say: async (_id, values) => {
        asked.push(values.write_title);
        return {
          user: message(`u${asked.length}`, null),
          answer: { ...running, id: `a${asked.length}`, status: 'complete' },
        };
      },
    },
    null,
  );
  await chat.say(say);
  await chat.say(say);
  expect(asked).toEqual([true, false]);
});

test('a full context is a question to the person, not an error', async () => {
  const calls: string[] = [];
  const { chat, hooks } = chatWith({
    say: (_id, values) => {
      calls.push(values.overflow);
      if (values.overflow === 'refuse') {
        return Promise.reject(
          new ApiError(409, 'context_full', 'full', { prompt_tokens: 9, max_tokens: 8 }),
        );
      }
      return Promise.resolve({ user: message('u', null), answer: running });
    },
    events: () => stream({ seq: 1, type: 'done', message: { ...running, status: 'complete' } }),
  });
  await chat.say(say);
  expect(chat.full).toMatchObject({ promptTokens: 9, maxTokens: 8, parts: say });
  expect(hooks.onError).not.toHaveBeenCalled();
  expect(await chat.full?.retry('drop_oldest')).toBe(true);
  expect(calls).toEqual(['refuse', 'drop_oldest']);
  expect(chat.full).toBeNull();
});

test('a line that breaks while sending is tried again with the same id', async () => {
  vi.useFakeTimers();
  const ids: string[] = [];
  const { chat } = chatWith({
    say: (_id, values) => {
      ids.push(values.id);
      if (ids.length < 3) return Promise.reject(new Unreachable());
      return Promise.resolve({ user: message('u', null), answer: running });
    },
    events: () => stream({ seq: 1, type: 'done', message: { ...running, status: 'complete' } }),
  });
  const said = chat.say(say);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await said).toBe(true);
  expect(new Set(ids).size).toBe(1);
  expect(ids).toHaveLength(3);
  vi.useRealTimers();
});

test('an answer that was running when the page opened is followed from its last event', async () => {
  const after: number[] = [];
  const { chat, hooks } = chatWith({
    conversation: async () => ({
      id: 'c',
      title: 't',
      title_is_auto: true,
      model: 'm',
      settings: {},
      active_leaf_id: 'a',
      created_at: 0,
      updated_at: 0,
      messages: [
        message('u', null),
        { ...running, parts: [{ type: 'text', text: 'Hel' }], last_seq: 7 },
      ],
    }),
    events: (_id, from) => {
      after.push(from);
      return stream(
        { seq: 8, type: 'text', text: 'lo' },
        { seq: 9, type: 'title', title: 'Greeting' },
      );
    },
  });
  await chat.load();
  await vi.waitFor(() => {
    flushSync();
    expect(chat.answer('a')?.message.parts).toEqual([{ type: 'text', text: 'Hello' }]);
  });
  expect(after[0]).toBe(7);
  expect(chat.title).toBe('Greeting');
  expect(hooks.onTitle).toHaveBeenCalledWith('c', 'Greeting');
  chat.close();
});
