/**
 * A growing Markdown text → blocks that can be drawn one by one.
 * While an answer streams only its end changes: every block but the last keeps its key and is
 * never parsed or drawn again, however long the answer gets.
 */
import type { Env, MarkdownIt } from 'markdown-it';

export type Block =
  | { key: string; kind: 'html'; source: string; env: Env }
  | { key: string; kind: 'code'; language: string; code: string; open: boolean };

export class BlockSplitter {
  readonly #md: MarkdownIt;
  #done: Block[] = [];
  /** How much of the text the blocks in `#done` cover. */
  #offset = 0;
  #text = '';

  constructor(md: MarkdownIt) {
    this.#md = md;
  }

  /** All blocks of `text`. Costs as much as the part after the last finished block. */
  split(text: string): Block[] {
    if (!text.startsWith(this.#text.slice(0, this.#offset))) {
      this.#done = [];
      this.#offset = 0;
    }
    this.#text = text;
    const tail = text.slice(this.#offset);
    const found = this.#parse(tail, this.#offset);
    const last = found.at(-1);
    if (!last) return this.#done;
    for (const { block } of found.slice(0, -1)) this.#done.push(block);
    this.#offset += last.start;
    return [...this.#done, last.block];
  }

  #parse(text: string, base: number): { block: Block; start: number }[] {
    const env: Env = {};
    const tokens = this.#md.parse(text, env);
    const starts = lineStarts(text);
    const at = (line: number) => starts[line] ?? text.length;
    const found: { block: Block; start: number }[] = [];
    for (const token of tokens) {
      if (token.level !== 0 || !token.map || token.nesting === -1) continue;
      const [from, to] = token.map;
      const start = at(from);
      const source = text.slice(start, at(to));
      const key = String(base + start);
      if (token.type === 'fence') {
        found.push({
          start,
          block: {
            key,
            kind: 'code',
            language: token.info.trim().split(/\s+/)[0] ?? '',
            code: token.content.replace(/\n$/, ''),
            open: !closesFence(source, token.markup),
          },
        });
      } else found.push({ start, block: { key, kind: 'html', source, env } });
    }
    return found;
  }
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let i = text.indexOf('\n'); i !== -1; i = text.indexOf('\n', i + 1)) starts.push(i + 1);
  return starts;
}

/** Whether the last line of a fenced block is its closing fence. */
function closesFence(source: string, markup: string): boolean {
  const lines = source.trimEnd().split('\n');
  const last = lines.at(-1)?.trim() ?? '';
  return lines.length > 1 && last.startsWith(markup) && /^(`+|~+)$/.test(last);
}
