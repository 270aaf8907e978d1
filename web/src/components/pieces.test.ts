// @vitest-environment jsdom
import { expect, test } from 'vitest';
import { highlighted } from './highlighted';
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
