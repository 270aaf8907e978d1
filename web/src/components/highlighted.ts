/** Splits a text at the places where the words of a query occur, so that they can be marked. */
export function highlighted(text: string, query: string): { text: string; hit: boolean }[] {
  const pattern = patternOf(query);
  if (!pattern) return [{ text, hit: false }];
  return text
    .split(pattern)
    .map((piece, i) => ({ text: piece, hit: i % 2 === 1 }))
    .filter((piece) => piece.text !== '');
}

/** Finds the words of a query; none when it has no words. */
function patternOf(query: string): RegExp | null {
  const words = query.split(/\s+/).filter((word) => word !== '');
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return words.length === 0 ? null : new RegExp(`(${escaped.join('|')})`, 'giu');
}

/** A piece of Markdown as one line of words: without the signs that say how it is set. */
export function plainWords(markdown: string): string {
  return markdown
    .replace(/\*\*|__|`+|\$+/g, '')
    .replace(/(^|\s)#+\s|\|(\s*:?-+:?\s*\|)*/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
}

/** The places below an element where the words of a query stand, for the browser to mark. */
export function placesOf(root: Node, query: string): Range[] {
  const pattern = patternOf(query);
  if (!pattern) return [];
  const places: Range[] = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    for (const match of (node.nodeValue ?? '').matchAll(pattern)) {
      const range = new Range();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      places.push(range);
    }
  }
  return places;
}
