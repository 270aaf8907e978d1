import { expect, test } from 'vitest';
import { dateGroup, formatBytes, formatParameters, formatShort } from './format';

test('sizes are decimal, as downloads state them', () => {
  expect(formatBytes(98_362_432)).toBe('98 MB');
  expect(formatBytes(2_489_757_856)).toBe('2.5 GB');
  expect(formatParameters(134_515_008)).toBe('135M');
  expect(formatParameters(4e9)).toBe('4B');
});

test('short counts keep one decimal below ten thousand', () => {
  expect([999, 1000, 1234, 9999, 32_768].map(formatShort)).toEqual([
    '999',
    '1k',
    '1.2k',
    '10k',
    '33k',
  ]);
});

test('a conversation stands under the day it was last used', () => {
  const now = new Date(2026, 2, 10, 9, 0);
  const group = (...args: [number, number, number, number?]) => dateGroup(new Date(...args), now);
  expect(group(2026, 2, 10, 0)).toBe('today');
  expect(group(2026, 2, 9, 23)).toBe('yesterday');
  expect(group(2026, 2, 4)).toBe('week');
  expect(group(2026, 1, 20)).toBe('month');
  expect(group(2025, 11, 31)).toEqual({ year: 2025, month: 11 });
});
