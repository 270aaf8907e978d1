/** An error of any kind → one sentence in the person's language. */
import { ApiError, Unreachable } from '../api';
import type { Catalogue } from './en';

export function errorText(error: unknown, t: Catalogue): string {
  if (error instanceof Unreachable) return t.errors.unreachable;
  if (error instanceof ApiError) return codeText(error.code, error.message, t);
  return t.errors.unknown(error instanceof Error ? error.message : String(error));
}

/** The server's English message is shown only where the page has no words of its own for the code. */
export function codeText(code: string, message: string, t: Catalogue): string {
  const known: Record<string, string | undefined> = t.errors.byCode;
  return known[code] ?? t.errors.unknown(message);
}
