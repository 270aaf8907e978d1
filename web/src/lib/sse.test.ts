import { expect, test } from 'vitest';
import { EventStreamParser, type ServerSentEvent } from './sse';

const data = (events: ServerSentEvent[]) => events.map((event) => event.data);

test('an event comes out once it is whole, however the network cut it', () => {
  const parser = new EventStreamParser();
  expect(parser.push('id: 1\nda')).toEqual([]);
  expect(parser.push('ta: {"seq":1,"text":"日')).toEqual([]);
  expect(parser.push('出"}\n')).toEqual([]);
  expect(data(parser.push('\nid: 2\ndata: {"seq":2}\n\nid: 3'))).toEqual([
    { seq: 1, text: '日出' },
    { seq: 2 },
  ]);
});

test('comments that keep the line open carry nothing', () => {
  expect(new EventStreamParser().push(':\n\n: still here\n\n')).toEqual([]);
});

test('carriage returns and data in several lines are read as the format says', () => {
  expect(data(new EventStreamParser().push('data: {"a":\r\ndata: 1}\r\n\r\n'))).toEqual([{ a: 1 }]);
});

test('an event has its kind and its number', () => {
  expect(new EventStreamParser().push('id:7\nevent: log\ndata: 1\n\ndata: 2\n\n')).toEqual([
    { id: '7', type: 'log', data: 1 },
    { id: '', type: 'message', data: 2 },
  ]);
});
