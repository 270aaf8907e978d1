/** Names of data: they become folders on the server, so only what every disk takes. */

const MAX_LENGTH = 64;

export function isDataName(name: string): boolean {
  return /^[\p{L}\p{N}_-][\p{L}\p{N}._-]*$/u.test(name) && name.length <= MAX_LENGTH;
}

/** A name after a file, and none that is taken. */
export function dataName(file: string, taken: readonly string[]): string {
  const stem = file.replace(/(\.(gz|zip|jsonl?|txt|md|html?))+$/i, '');
  const clean = stem
    .normalize('NFC')
    .replace(/[^\p{L}\p{N}._-]+/gu, '-')
    .replace(/^[.-]+|-+$/g, '')
    .slice(0, MAX_LENGTH - 4);
  const base = clean === '' ? 'data' : clean;
  let name = base;
  for (let i = 2; taken.includes(name); i += 1) name = `${base}-${i}`;
  return name;
}
