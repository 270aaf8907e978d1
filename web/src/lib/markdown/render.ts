/**
 * Markdown → HTML that is safe to put on the page. HTML in the source is shown as text, what the
 * renderer makes is sanitised once more, links open outside, and no picture is fetched
 * from elsewhere: it could tell a stranger that, and when, this answer was read.
 * This file and all it imports is fetched after the first paint.
 */
import DOMPurify from 'dompurify';
import MarkdownIt, { type Env, type Token } from 'markdown-it';
import cjkFriendly from 'markdown-it-cjk-friendly';
import { BlockSplitter, type Block } from './blocks';
import { mathPlugin } from './math';

export type { Block } from './blocks';

/** Words the renderer puts on the page. */
export interface Labels {
  copyCode: string;
  code: string;
  table: string;
  image: (host: string) => string;
  localImage: string;
}

const md = MarkdownIt({ html: false, linkify: true, breaks: true, typographer: false });
// "main.rs" and "next.js" are files, not web sites.
md.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
md.use(cjkFriendly).use(mathPlugin);

const escape = (text: string) => md.utils.escapeHtml(text);
const labelsOf = (env: Env | undefined) => env?.['labels'] as Labels;

md.renderer.rules.fence = (tokens, i, _options, env) => {
  const token = tokens[i];
  const language = token?.info.trim().split(/\s+/)[0] ?? '';
  return codeFigure(token?.content.replace(/\n$/, '') ?? '', language, labelsOf(env));
};
md.renderer.rules.code_block = (tokens, i, _options, env) =>
  codeFigure(tokens[i]?.content.replace(/\n$/, '') ?? '', '', labelsOf(env));

function codeFigure(code: string, language: string, labels: Labels): string {
  return (
    `<figure class="code"><figcaption><span>${escape(language || labels.code)}</span>` +
    `<button type="button" class="copy-code" aria-label="${escape(labels.copyCode)}"></button></figcaption>` +
    `<pre tabindex="0"><code data-language="${escape(language)}">${escape(code)}</code></pre></figure>`
  );
}

md.renderer.rules.table_open = (_tokens, _i, _options, env) =>
  `<div class="table" tabindex="0" role="region" aria-label="${escape(labelsOf(env).table)}"><table>`;
md.renderer.rules.table_close = () => '</table></div>';
// Alignment as an attribute: inline styles are closed by the content policy.
for (const cell of ['th_open', 'td_open'] as const) {
  md.renderer.rules[cell] = (tokens, i) => {
    const align = /text-align:(\w+)/.exec(String(tokens[i]?.attrGet('style') ?? ''))?.[1];
    return `<${cell.slice(0, 2)}${align ? ` align="${align}"` : ''}>`;
  };
}

// Headings of an answer stand below the headings of the page.
for (const rule of ['heading_open', 'heading_close'] as const) {
  md.renderer.rules[rule] = (tokens, i) => {
    const level = Number(tokens[i]?.tag.slice(1) ?? 1);
    const tag = `h${Math.min(level + 2, 6)}`;
    return rule === 'heading_open' ? `<${tag} class="md-h${level}">` : `</${tag}>\n`;
  };
}

md.renderer.rules.image = (tokens, i, _options, env) => {
  const token = tokens[i];
  const source = String(token?.attrGet('src') ?? '');
  const alt = token?.content ?? '';
  const labels = labelsOf(env);
  if (source.startsWith('data:image/')) return `<img src="${escape(source)}" alt="${escape(alt)}">`;
  let host: string;
  try {
    host = new URL(source).host;
  } catch {
    return `<span class="no-image">${escape(alt || labels.localImage)}</span>`;
  }
  const text = alt ? `${alt} · ${labels.image(host)}` : labels.image(host);
  return `<a class="no-image" href="${escape(source)}">${escape(text)}</a>`;
};

/** "- [x] done" → a ticked box. */
md.core.ruler.after('inline', 'tasks', (state) => {
  state.tokens.forEach((token: Token, i: number) => {
    if (token.type !== 'inline' || state.tokens[i - 2]?.type !== 'list_item_open') return;
    const first = token.children?.[0];
    const box = first?.type === 'text' ? /^\[([ xX])\]\s/.exec(first.content) : null;
    if (!first || !box) return;
    first.content = (box[1] === ' ' ? '☐ ' : '☑ ') + first.content.slice(box[0].length);
    state.tokens[i - 2]?.attrJoin('class', 'task');
  });
  return true;
});

const purify = DOMPurify(window);
purify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName === 'A') {
    node.setAttribute('target', '_blank');
    node.setAttribute('rel', 'noopener noreferrer nofollow');
  }
});

const ALLOWED_TAGS = (
  'p br hr em strong s a ul ol li blockquote h3 h4 h5 h6 table thead tbody tr th td ' +
  'code pre figure figcaption button div span img'
).split(' ');
const ALLOWED_ATTR =
  'href title class align start src alt type tabindex role aria-label target rel data-tex data-language'.split(
    ' ',
  );

export function createSplitter(): BlockSplitter {
  return new BlockSplitter(md);
}

export function renderBlock(block: Extract<Block, { kind: 'html' }>, labels: Labels): string {
  const html = md.render(block.source, { ...block.env, labels });
  return purify.sanitize(html, { ALLOWED_TAGS, ALLOWED_ATTR });
}

export function escapeHtml(text: string): string {
  return escape(text);
}
