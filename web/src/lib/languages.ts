/**
 * Which language is this text in, as far as its script tells, and which model speaks it?
 * Scripts are enough for the question we ask ("can this model read it at all?"); Latin
 * script is left open because telling French from English needs more than letters.
 */
import type { Model } from './wire';

const SCRIPTS: [string, RegExp][] = [
  ['ja', /[\p{Script=Hiragana}\p{Script=Katakana}]/gu],
  ['ko', /\p{Script=Hangul}/gu],
  ['zh', /\p{Script=Han}/gu],
  ['ru', /\p{Script=Cyrillic}/gu],
  ['ar', /\p{Script=Arabic}/gu],
  ['he', /\p{Script=Hebrew}/gu],
  ['hi', /\p{Script=Devanagari}/gu],
  ['th', /\p{Script=Thai}/gu],
  ['el', /\p{Script=Greek}/gu],
];

/** A longer text is judged by its beginning: no need to read a pasted book. */
const SAMPLE = 2000;

export function languageOf(text: string): string | null {
  const sample = text.slice(0, SAMPLE);
  const letters = sample.match(/\p{L}/gu)?.length ?? 0;
  if (letters === 0) return null;
  const count = (pattern: RegExp) => sample.match(pattern)?.length ?? 0;
  let best: string | null = null;
  let bestShare = 0;
  for (const [language, pattern] of SCRIPTS) {
    const share = count(pattern) / letters;
    // Japanese is written with Han characters too: a little kana decides.
    const weight = language === 'ja' && share > 0.1 ? share + 1 : share;
    if (weight > bestShare) [best, bestShare] = [language, weight];
  }
  return bestShare >= 0.25 ? best : null;
}

export function baseLanguage(tag: string): string {
  return tag.toLowerCase().split(/[-_]/)[0] ?? tag;
}

/** A model that states no languages may speak any; we do not accuse it. */
export function speaks(model: Model, language: string): boolean {
  if (model.languages.length === 0) return true;
  const wanted = baseLanguage(language);
  return model.languages.some(
    (tag) => tag === '*' || tag === 'multilingual' || baseLanguage(tag) === wanted,
  );
}

const NEARNESS: Record<Model['state'], number> = {
  loaded: 4,
  loading: 3,
  downloaded: 2,
  downloading: 1,
  available: 0,
  failed: -1,
};

/** The model to offer for a language: nearest to hand first, then recommended, then smallest. */
export function speakerOf(models: readonly Model[], language: string): Model | null {
  const able = models.filter(
    (model) =>
      speaks(model, language) &&
      model.languages.length > 0 &&
      model.fits !== false &&
      !(model.gated && model.state === 'available'),
  );
  const rank = (model: Model) =>
    NEARNESS[model.state] * 10 + (model.recommended ? 1 : 0) - (model.unverified ? 2 : 0);
  able.sort((a, b) => rank(b) - rank(a) || (a.file_size ?? Infinity) - (b.file_size ?? Infinity));
  return able[0] ?? null;
}
