import { expect, test } from 'vitest';
import { en } from './en';
import { errorText } from './errors';
import { zh } from './zh';
import { en as trainingEn } from '../training/i18n/en';
import { zh as trainingZh } from '../training/i18n/zh';
import { ApiError, Unreachable } from '../api';

function leaves(value: unknown, path = ''): [string, unknown][] {
  if (typeof value !== 'object' || value === null) return [[path, value]];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, `${path}.${key}`));
}

const catalogues = [
  { name: 'page', first: en, second: zh, shared: /^\.(app\.name|settings\.(top_|min_))/ },
  {
    name: 'training',
    first: trainingEn,
    second: trainingZh,
    // Names of methods, and states that say nothing.
    shared: /^\.(choices\.(muon|adamw)|statusHelp\.(running|done))$/,
  },
];

test.each(catalogues)('both languages say the same things: $name', ({ first, second }) => {
  expect(leaves(second).map(([path]) => path)).toEqual(leaves(first).map(([path]) => path));
});

test.each(catalogues)(
  'nothing is left empty, and nothing in English stands in the Chinese catalogue: $name',
  ({ first, second, shared }) => {
    const same = new Map(leaves(first));
    const borrowed = leaves(second).filter(
      ([path, value]) =>
        typeof value === 'string' &&
        (value.trim() === '' || value === same.get(path)) &&
        !shared.test(path),
    );
    expect(borrowed).toEqual([]);
  },
);

test('an error is told in the words of its code, and in the server’s where there are none', () => {
  expect(errorText(new ApiError(507, 'disk_full', 'no space left'), zh)).toBe('磁盘已满。');
  expect(errorText(new ApiError(418, 'teapot', 'short and stout'), en)).toContain(
    'short and stout',
  );
  expect(errorText(new Unreachable(), zh)).toBe(zh.errors.unreachable);
});
