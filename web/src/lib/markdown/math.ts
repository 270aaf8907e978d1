/**
 * A markdown-it plugin for formulas: `$$…$$`, `\[…\]` and `\(…\)` always, `$…$` with care,
 * because a dollar is mostly money. It leaves `<span class="math" data-tex>` behind;
 * KaTeX draws into those later, and is only fetched when there is one.
 */
import type { MarkdownIt, StateBlock, StateInline } from 'markdown-it';

export function mathPlugin(md: MarkdownIt) {
  md.inline.ruler.before('escape', 'math_inline', inlineMath);
  md.block.ruler.before('fence', 'math_block', blockMath, {
    alt: ['paragraph', 'reference', 'blockquote', 'list'],
  });
  md.renderer.rules['math_inline'] = (tokens, i) => {
    const token = tokens[i];
    const display = token?.markup === '$$' || token?.markup === '\\[';
    const tex = md.utils.escapeHtml(token?.content ?? '');
    return `<span class="math${display ? ' display' : ''}" data-tex="${tex}">${tex}</span>`;
  };
  md.renderer.rules['math_block'] = (tokens, i) => {
    const tex = md.utils.escapeHtml(tokens[i]?.content ?? '');
    return `<div class="math display" data-tex="${tex}">${tex}</div>\n`;
  };
}

function inlineMath(state: StateInline, silent: boolean): boolean {
  const { src, pos, posMax } = state;
  const open = opener(src, pos);
  if (!open) return false;
  const close = CLOSERS[open] ?? open;
  const end = findClose(src, pos + open.length, posMax, open, close);
  if (end === -1) return false;
  const content = src.slice(pos + open.length, end).trim();
  if (content === '' || (open === '$' && !looksLikeMath(src, pos, end))) return false;
  if (!silent) {
    const token = state.push('math_inline', 'math', 0);
    token.markup = open;
    token.content = content;
  }
  state.pos = end + close.length;
  return true;
}

const CLOSERS: Record<string, string> = { '\\(': '\\)', '\\[': '\\]' };

function opener(src: string, pos: number): string | null {
  if (src.startsWith('$$', pos)) return '$$';
  if (src[pos] === '$') return '$';
  if (src.startsWith('\\(', pos)) return '\\(';
  if (src.startsWith('\\[', pos)) return '\\[';
  return null;
}

function findClose(src: string, from: number, max: number, open: string, close: string): number {
  for (
    let at = src.indexOf(close, from);
    at !== -1 && at + close.length <= max;
    at = src.indexOf(close, at + 1)
  ) {
    if (open.startsWith('$') && src[at - 1] === '\\') continue;
    return at;
  }
  return -1;
}

/** Pandoc's rule for single dollars, and no plain prose or amounts between them. */
function looksLikeMath(src: string, open: number, close: number): boolean {
  const before = src[open - 1] ?? ' ';
  const after = src[close + 1] ?? ' ';
  const content = src.slice(open + 1, close);
  if (/[\w$\\]/.test(before) || /[\d$A-Za-z]/.test(after)) return false;
  if (/^\s|\s$|\n\n/.test(content)) return false;
  const tex = /[\\^_{}=<>+*/|]/.test(content);
  if (!tex && /[A-Za-z]{2,}\s+[A-Za-z]{2,}|^[\d.,]+\s|[\u3000-\u9fff]{2,}/.test(content))
    return false;
  return true;
}

function blockMath(
  state: StateBlock,
  startLine: number,
  endLine: number,
  silent: boolean,
): boolean {
  const line = (n: number) =>
    state.src.slice((state.bMarks[n] ?? 0) + (state.tShift[n] ?? 0), state.eMarks[n] ?? 0).trim();
  const first = line(startLine);
  const open = first.startsWith('$$') ? '$$' : first.startsWith('\\[') ? '\\[' : null;
  if (!open || (state.sCount[startLine] ?? 0) - state.blkIndent >= 4) return false;
  const close = CLOSERS[open] ?? open;
  const body: string[] = [];
  let text = first.slice(open.length);
  let next = startLine;
  for (;;) {
    const at = text.indexOf(close);
    if (at !== -1) {
      // Words after the formula: this is a sentence, and the inline rule takes it.
      if (text.slice(at + close.length).trim() !== '') return false;
      body.push(text.slice(0, at));
      break;
    }
    body.push(text);
    next += 1;
    if (next >= endLine || (state.sCount[next] ?? 0) < state.blkIndent) return false;
    text = line(next);
  }
  if (silent) return true;
  const token = state.push('math_block', 'math', 0);
  token.block = true;
  token.content = body.join('\n').trim();
  token.markup = open;
  token.map = [startLine, next + 1];
  state.line = next + 1;
  return true;
}
