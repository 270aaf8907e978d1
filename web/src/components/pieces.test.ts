// @vitest-environment jsdom
import { expect, test } from 'vitest';
import { highlighted, placesOf, plainWords } from './highlighted';
import { isComposing } from './typing';
import { fileName } from '$lib/save-file';
import { parse, pathOf } from '$lib/stores/router.svelte';
import { uuidv7 } from '$lib/uuid';

test('hits of a search are marked, signs of a pattern taken as they are', () => {
  expect(highlighted('A (B) a', '(b)')).toEqual([
    { text: 'A ', hit: false },
    { text: '(B)', hit: true },
    { text: ' a', hit: false },
  ]);
  expect(highlighted('plain', '')).toEqual([{ text: 'plain', hit: false }]);
});

test('a snippet is read without the signs of Markdown', () => {
  const cases = [
    ['picks a **pivot**, moves `x` items', 'picks a pivot, moves x items'],
    [
      '…\u4efb\u4f55\u60c5\u51b5\u4e0b\u90fd\u662f $O(n)$\uff0c\u4f46',
      '…\u4efb\u4f55\u60c5\u51b5\u4e0b\u90fd\u662f O(n)\uff0c\u4f46',
    ],
    ['## How | a | b | |---|---| | 1', 'How a b 1'],
    ['snake_case * 2', 'snake_case * 2'],
  ];
  for (const [markdown, words] of cases) expect(plainWords(markdown ?? '')).toBe(words);
});

test('the places of a query are found in the words of a message', () => {
  document.body.innerHTML = '<article><p>A <b>Pivot</b> is no pivot.</p></article>';
  const places = placesOf(document.body, 'pivot no');
  expect(places.map((place) => place.toString())).toEqual(['Pivot', 'no', 'pivot']);
  expect(placesOf(document.body, ' ')).toEqual([]);
});

test('Enter belongs to the input method while it composes', () => {
  expect(isComposing(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true }))).toBe(true);
  expect(isComposing(new KeyboardEvent('keydown', { key: 'Process', keyCode: 229 }))).toBe(true);
  expect(isComposing(new KeyboardEvent('keydown', { key: 'Enter', keyCode: 13 }))).toBe(false);
});

test('addresses name conversations both ways', () => {
  expect(parse(pathOf({ kind: 'conversation', id: 'a b' }))).toEqual({
    kind: 'conversation',
    id: 'a b',
  });
  expect(parse('/')).toEqual({ kind: 'new' });
});

test('a title becomes a file name that every system takes', () => {
  expect(fileName('a/b: "c"?\n')).toBe('a b c');
  expect(fileName('???')).toBe('daybreak');
});

test('ids sort by time', () => {
  expect(uuidv7(1)).toMatch(/^00000000-0001-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(uuidv7(2000) > uuidv7(1000)).toBe(true);
});
