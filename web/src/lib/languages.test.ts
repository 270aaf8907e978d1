import { expect, test } from 'vitest';
import { languageOf, speakerOf, speaks } from './languages';
import type { Model } from './wire';

const model = (name: string, languages: string[], more: Partial<Model> = {}): Model => ({
  name,
  title: name,
  languages,
  state: 'available',
  ...more,
});

test.each([
  ['彩虹是怎样形成的？', 'zh'],
  ['用 Python 写一个函数', 'zh'],
  ['虹はどうしてできますか', 'ja'],
  ['무지개는 어떻게 생기나요', 'ko'],
  ['Как образуется радуга?', 'ru'],
  ['How does a rainbow form?', null],
  ['What does 你好 mean in English, please?', null],
  ['123 + 456 = ?', null],
])('%s is written in %s', (text, language) => {
  expect(languageOf(text)).toBe(language);
});

test('a language tag with a region is that language', () => {
  expect(speaks(model('m', ['zh']), 'zh-CN')).toBe(true);
  expect(speaks(model('m', ['en']), 'zh-CN')).toBe(false);
  expect(speaks(model('m', []), 'zh-CN')).toBe(true);
});

test('what is already here is offered before what must be fetched, then the recommended, then the small', () => {
  const small = model('small', ['zh'], { file_size: 1 });
  const recommended = model('recommended', ['zh'], { file_size: 9, recommended: true });
  const here = model('here', ['zh'], { file_size: 99, state: 'downloaded' });
  expect(speakerOf([small, recommended, here], 'zh')?.name).toBe('here');
  expect(speakerOf([small, recommended], 'zh')?.name).toBe('recommended');
  expect(speakerOf([small, model('tiny', ['zh'], { file_size: 0.5 })], 'zh')?.name).toBe('tiny');
});

test('a model that cannot be fetched or does not fit is not offered', () => {
  expect(speakerOf([model('g', ['zh'], { gated: true })], 'zh')).toBeNull();
  expect(speakerOf([model('l', ['zh'], { fits: false })], 'zh')).toBeNull();
  expect(speakerOf([model('e', ['en'])], 'zh')).toBeNull();
});
