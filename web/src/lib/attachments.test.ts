import { expect, test } from 'vitest';
import { decodeText, MAX_FILE_BYTES, readAttachment } from './attachments';

const file = (bytes: BlobPart, name: string, type = '') => new File([bytes], name, { type });

test('a text file becomes a part with unix line ends', async () => {
  expect(await readAttachment(file('a\r\nb', 'a.rs'))).toEqual({
    ok: true,
    part: { type: 'file', name: 'a.rs', media_type: 'text/plain', text: 'a\nb', size: 4 },
  });
});

test.each([
  ['binary', file(new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0, 1]), 'a.png')],
  ['empty', file('', 'a.txt')],
  ['too_large', file(new Uint8Array(MAX_FILE_BYTES + 1).fill(65), 'a.txt')],
])('a file that is %s is refused by that name', async (reason, given) => {
  expect(await readAttachment(given)).toMatchObject({ ok: false, reason });
});

test('older Chinese and UTF-16 files are read', () => {
  expect(decodeText(new Uint8Array([0xc4, 0xe3, 0xba, 0xc3]))).toBe('你好');
  expect(decodeText(new Uint8Array([0xff, 0xfe, 0x60, 0x4f]))).toBe('你');
  expect(decodeText(new TextEncoder().encode('日出'))).toBe('日出');
});
