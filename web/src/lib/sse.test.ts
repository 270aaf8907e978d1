import { expect, test } from 'vitest';
import { EventStreamParser } from './sse';

test('an event comes out once it is whole, however the network cut it', () => {
  const parser = new EventStreamParser();
  expect(parser.push('id: 1\nda')).toEqual([]);
  expect(parser.push('ta: {"seq":1,"text":"日')).toEqual([]);
  expect(parser.push('出"}\n')).toEqual([]);
  expect(parser.push('\nid: 2\ndata: {"seq":2}\n\nid: 3')).toEqual([
    { seq: 1, text: '日出' },
    { seq: 2 },
  ]);
});

test('comments that keep the line open carry nothing', () => {
  expect(new EventStreamParser().push(':\n\n: still here\n\n')).toEqual([]);
});

test('carriage returns and data in several lines are read as the format says', () => {
  expect(new EventStreamParser().push('data: {"a":\r\ndata: 1}\r\n\r\n')).toEqual([{ a: 1 }]);
});
