/** Tokens → pieces of text that belong together: all learnt, or all only read. */
import type { MaskedToken } from './wire';

export interface Span {
  trained: boolean;
  tokens: string[];
}

/** `together`: nothing is told apart, as in texts, where everything is learnt. */
export function spans(tokens: readonly MaskedToken[], together: boolean): Span[] {
  const found: Span[] = [];
  for (const { text, trained } of tokens) {
    const last = found.at(-1);
    if (last && (together || last.trained === trained)) last.tokens.push(text);
    else found.push({ trained, tokens: [text] });
  }
  return found;
}

export function nTrained(tokens: readonly MaskedToken[]): number {
  return tokens.reduce((n, token) => n + Number(token.trained), 0);
}
