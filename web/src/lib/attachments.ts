/**
 * A file from the person's disk → a text part of a message, or the reason why not.
 * Whether a file is text is decided by its bytes, not by its name.
 */
import type { FilePart } from './wire';

/** More than this does not fit the context of any model we run; the server refuses it too. */
export const MAX_FILE_BYTES = 1024 * 1024;
/** Pasted text longer than this becomes a file, so that the composer stays readable. */
export const LONG_PASTE_CHARS = 4000;

export type Refusal = 'binary' | 'too_large' | 'empty' | 'unreadable';

export type Attachment =
  { ok: true; part: FilePart } | { ok: false; name: string; reason: Refusal };

export async function readAttachment(file: File): Promise<Attachment> {
  const refuse = (reason: Refusal): Attachment => ({ ok: false, name: file.name, reason });
  if (file.size > MAX_FILE_BYTES) return refuse('too_large');
  if (file.size === 0) return refuse('empty');
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch {
    // A folder dropped on the page, or a file that vanished.
    return refuse('unreadable');
  }
  const text = decodeText(bytes);
  if (text === null) return refuse('binary');
  return {
    ok: true,
    part: {
      type: 'file',
      name: file.name,
      media_type: file.type || 'text/plain',
      text: text.replace(/\r\n?/g, '\n'),
      size: file.size,
    },
  };
}

export function pastedFile(text: string, name: string): FilePart {
  return {
    type: 'file',
    name,
    media_type: 'text/plain',
    text,
    size: new TextEncoder().encode(text).length,
  };
}

/** UTF-8, UTF-16 with its mark, or the encoding older Chinese files are in; null when it is no text. */
export function decodeText(bytes: Uint8Array): string | null {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return decode(bytes, 'utf-16le');
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return decode(bytes, 'utf-16be');
  if (bytes.some(isBinaryControl)) return null;
  return decode(bytes, 'utf-8') ?? decode(bytes, 'gb18030');
}

/** Control characters that no text file holds: all but tab, line ends, form feed and escape. */
function isBinaryControl(byte: number): boolean {
  return byte < 0x09 || byte === 0x0b || (byte > 0x0d && byte < 0x20 && byte !== 0x1b);
}

function decode(bytes: Uint8Array, encoding: string): string | null {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}
