import { expect, test } from 'vitest';
import { en } from './en';
import { errorText } from './errors';
import { zh } from './zh';
import { ApiError, Unreachable } from '../api';

function leaves(value: unknown, path = ''): [string, unknown][] {
  if (typeof value !== 'object' || value === null) return [[path, value]];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, `${path}.${key}`));
}

test('both languages say the same things', () => {
  expect(leaves(zh).map(([path]) => path)).toEqual(leaves(en).map(([path]) => path));
});

test('nothing is left empty, and nothing in English stands in the Chinese catalogue', () => {
  const same = new Map(leaves(en));
  const borrowed = leaves(zh).filter(
    ([path, value]) =>
      typeof value === 'string' &&
      (value.trim() === '' ||
        (value === same.get(path) && !/^\.(app\.name|settings\.(top_|min_))/.test(path))),
  );
  expect(borrowed).toEqual([]);
});

test('an error is told in the words of its code, and in the server’s where there are none', () => {
  expect(errorText(new ApiError(507, 'disk_full', 'no space left'), zh)).toBe('磁盘已满。');
  expect(errorText(new ApiError(418, 'teapot', 'short and stout'), en)).toContain(
    'short and stout',
  );
  expect(errorText(new Unreachable(), zh)).toBe(zh.errors.unreachable);
});
