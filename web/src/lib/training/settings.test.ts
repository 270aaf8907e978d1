import { expect, test } from 'vitest';
import { dataName, isDataName } from './data-name';
import { duration, figure, parseDuration, shellWord } from './format';
import { en } from './i18n/en';
import { nTrained, spans } from './mask';
import { parsePlace, placePath, type Place } from './place';
import { inOrder, parseNumber, runName, valueOf, valuesOf, wrongWith } from './settings';
import type { Recipe, Setting } from './wire';

const depth: Setting = { key: 'depth', kind: 'int', default: null, min: 1, max: 64 };
const decay: Setting = {
  key: 'decay',
  kind: 'choice',
  default: 'wsd',
  choices: ['wsd', 'cosine'],
};
const budget: Setting = { key: 'budget', kind: 'duration', default: null };
const recipe: Recipe = {
  id: 'pretrain',
  stage: 'pretrain',
  needs_base: false,
  data: 'text',
  settings: [decay, budget, depth],
};
const wrong = (setting: Setting, text: string) => wrongWith(setting, text, en.fresh.bad, 'en');

test('numbers may be written short', () => {
  expect(['20M', '1.5e9', '300k', '1,000', '.5', '12'].map(parseNumber)).toEqual([
    20e6, 1.5e9, 300e3, 1000, 0.5, 12,
  ]);
  expect(['', 'many', '1 2 x', '1e999'].map(parseNumber)).toEqual([null, null, null, null]);
});

test('what a setting does not take is said in words', () => {
  expect(wrong(depth, '')).toBeNull();
  expect(wrong(depth, '4')).toBeNull();
  expect(wrong(depth, '65')).toContain('1 to 64');
  expect(wrong(depth, '1.5')).toBe(en.fresh.bad.whole);
  expect(wrong(depth, 'deep')).toBe(en.fresh.bad.number);
  expect(wrong({ ...depth, max: null }, '0')).toContain('1 or more');
  expect(wrong(budget, '30')).toBe(en.fresh.bad.duration);
  expect(wrong(budget, '1h 30m')).toBeNull();
});

test('only what is not as usual is sent', () => {
  expect(valuesOf(recipe, { depth: '2', decay: 'wsd', budget: ' ' })).toEqual({ depth: 2 });
  expect(valueOf({ ...depth, kind: 'bool' }, 'true')).toBe(true);
  expect(valueOf({ ...depth, kind: 'texts' }, 'a\n\n b ')).toEqual(['a', 'b']);
});

test('the setting that matters most comes first', () => {
  expect(inOrder(recipe, recipe.settings).map(({ key }) => key)).toEqual([
    'depth',
    'budget',
    'decay',
  ]);
});

test('times are read and written', () => {
  expect(['30m', '1h30m', '90s', '2d', '5', 'soon', '0s'].map(parseDuration)).toEqual([
    1800,
    5400,
    90,
    172_800,
    null,
    null,
    null,
  ]);
  expect(duration(4000, 'en')).toBe('1 h 6 min');
  expect(duration(4000, 'zh-CN')).toBe('1 小时 6 分');
  expect(duration(59.6, 'en')).toBe('1 min');
  expect(duration(0.02, 'en')).toBe('20 ms');
  expect(duration(NaN, 'en')).toBe('–');
});

test('figures have about four digits that count', () => {
  expect([3.14159, 12_345.6, 0.00031234, 1.234e-7, 0].map((n) => figure(n, 'en'))).toEqual([
    '3.142',
    '12,346',
    '0.0003123',
    '1.23×10⁻⁷',
    '0',
  ]);
  expect(figure(null, 'en')).toBe('–');
});

test('a command can be pasted into a shell', () => {
  expect(['--depth', 'my data', "it's"].map(shellWord)).toEqual([
    '--depth',
    "'my data'",
    `'it'\\''s'`,
  ]);
});

test('every place has an address and comes back from it', () => {
  const places: Place[] = [
    { kind: 'runs' },
    { kind: 'run', id: 'a/b' },
    { kind: 'compare', ids: ['a', 'b'] },
    { kind: 'new', recipe: null },
    { kind: 'new', recipe: 'sft' },
    { kind: 'new', recipe: 'sft', data: '我的 数据' },
    { kind: 'new', recipe: null, from: 'x' },
    { kind: 'data', name: null },
    { kind: 'data', name: 'a%b' },
  ];
  for (const place of places) expect(parsePlace(placePath(place))).toEqual(place);
  expect(parsePlace('nowhere/at/all')).toEqual({ kind: 'runs' });
  expect(parsePlace('data/%')).toEqual({ kind: 'data', name: '%' });
});

test('names of data are safe and not taken', () => {
  expect(dataName('My books (2).txt.gz', [])).toBe('My-books-2');
  expect(dataName('chats.jsonl', ['chats', 'chats-2'])).toBe('chats-3');
  expect(dataName('../../etc', [])).toBe('etc');
  expect(dataName('西游记.txt', [])).toBe('西游记');
  expect(['a', '西游记', 'a.b-c_1'].every(isDataName)).toBe(true);
  expect(['', '.a', 'a/b', 'a b', 'x'.repeat(65)].some(isDataName)).toBe(false);
});

test('runs get names of their own', () => {
  expect(runName('books', [])).toBe('books');
  expect(runName('books', ['books'])).toBe('books-2');
});

test('tokens that are learnt stand together', () => {
  const tokens = [
    { text: 'a', trained: false },
    { text: 'b', trained: true },
    { text: 'c', trained: true },
    { text: 'd', trained: false },
  ];
  expect(spans(tokens, false).map(({ tokens: t }) => t.join(''))).toEqual(['a', 'bc', 'd']);
  expect(spans(tokens, true)).toHaveLength(1);
  expect(nTrained(tokens)).toBe(2);
});
