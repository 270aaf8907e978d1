/** Draws KaTeX into the places the Markdown renderer left; fetched with the first formula. */
import katex from 'katex';
import 'katex/dist/katex.min.css';

/** Limits on what a formula may cost or do: no links, no HTML, no endless macros. */
const OPTIONS = {
  throwOnError: false,
  trust: false,
  strict: false,
  maxSize: 20,
  maxExpand: 300,
} as const;

export function drawFormulas(root: HTMLElement) {
  for (const place of root.querySelectorAll<HTMLElement>('.math[data-tex]')) {
    const tex = place.dataset['tex'] ?? '';
    delete place.dataset['tex'];
    katex.render(tex, place, { ...OPTIONS, displayMode: place.classList.contains('display') });
  }
}
