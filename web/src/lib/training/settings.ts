/** Settings as they are typed → values that the server takes, or why not. */
import type { Locale } from '../format';
import { duration, figure, parseDuration, settingText } from './format';
import type { Recipe, Setting, SettingValue, SettingValues } from './wire';

/** What stands open; everything else is folded away. */
const COMMON: Record<string, readonly string[]> = {
  'first-light': ['quick', 'threads'],
  pretrain: ['depth', 'budget', 'tokens', 'vocab_size', 'seq_len', 'threads'],
  sft: ['epochs', 'lr', 'lora', 'seq_len', 'threads'],
  dpo: ['epochs', 'lr', 'beta', 'lora', 'threads'],
};

/** Each of these decides the length of a run, so only one may be given. */
export const LENGTHS = ['budget', 'tokens', 'flops'] as const;

export function isCommon(recipe: Recipe, setting: Setting): boolean {
  return (COMMON[recipe.id] ?? COMMON[recipe.stage] ?? []).includes(setting.key);
}

/** In the order in which they are thought of, not in that of the server. */
export function inOrder(recipe: Recipe, settings: readonly Setting[]): Setting[] {
  const order = COMMON[recipe.id] ?? COMMON[recipe.stage] ?? [];
  const rank = ({ key }: Setting) => (order.includes(key) ? order.indexOf(key) : order.length);
  return settings.toSorted((a, b) => rank(a) - rank(b));
}

export interface BadWords {
  number: string;
  whole: string;
  range: (min: string, max: string) => string;
  atLeast: (min: string) => string;
  atMost: (max: string) => string;
  duration: string;
}

/** Counts may be written short: 20M, 1.5e9, 300k. */
export function parseNumber(text: string): number | null {
  const found = /^([+-]?\d[\d,_\s]*(?:\.\d+)?(?:e[+-]?\d+)?)\s*([kmgtb]?)$/i.exec(text.trim());
  if (!found) return /^[+-]?\.\d+$/.test(text.trim()) ? Number(text) : null;
  const factor = { k: 1e3, m: 1e6, g: 1e9, b: 1e9, t: 1e12 }[found[2]?.toLowerCase() ?? ''] ?? 1;
  const value = Number(found[1]?.replaceAll(/[,_\s]/g, '')) * factor;
  return Number.isFinite(value) ? value : null;
}

/** What is wrong with a value, in words; null where nothing is. */
export function wrongWith(
  setting: Setting,
  text: string,
  words: BadWords,
  locale: Locale,
): string | null {
  if (text.trim() === '') return null;
  if (setting.kind === 'duration') return parseDuration(text) === null ? words.duration : null;
  if (setting.kind !== 'int' && setting.kind !== 'float') return null;
  const value = parseNumber(text);
  if (value === null) return words.number;
  if (setting.kind === 'int' && !Number.isInteger(value)) return words.whole;
  const { min, max } = setting;
  const low = min != null && value < min;
  const high = max != null && value > max;
  if (!low && !high) return null;
  if (min != null && max != null) return words.range(figure(min, locale), figure(max, locale));
  return low ? words.atLeast(figure(min, locale)) : words.atMost(figure(max, locale));
}

/** A typed text as the value that is sent; null for "as usual". */
export function valueOf(setting: Setting, text: string): SettingValue | null {
  const clean = text.trim();
  if (clean === '') return null;
  switch (setting.kind) {
    case 'int':
    case 'float':
      return parseNumber(clean);
    case 'bool':
      return clean === 'true';
    case 'texts':
      return clean
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line !== '');
    case 'duration':
      return clean.replaceAll(/\s/g, '');
    default:
      return clean;
  }
}

/** What was typed, by key → what is sent: only what is not as usual anyway. */
export function valuesOf(recipe: Recipe, typed: Readonly<Record<string, string>>): SettingValues {
  const values: SettingValues = {};
  for (const setting of recipe.settings) {
    const value = valueOf(setting, typed[setting.key] ?? '');
    if (value !== null && settingText(value) !== settingText(setting.default))
      values[setting.key] = value;
  }
  return values;
}

export function typedFrom(values: SettingValues): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => [key, settingText(value)]),
  );
}

/** The usual value, as a person reads it. */
export function usual(setting: Setting, locale: Locale): string {
  const value = setting.default;
  if (value === null) return '';
  if (setting.kind === 'duration' && typeof value === 'number') return duration(value, locale);
  if (typeof value === 'number') return figure(value, locale);
  return settingText(value);
}

/** A name for a run: after its data or its recipe, and none that is taken. */
export function runName(wanted: string, taken: readonly string[]): string {
  const base = wanted.trim() === '' ? 'run' : wanted.trim().slice(0, 60);
  let name = base;
  for (let i = 2; taken.includes(name); i += 1) name = `${base}-${i}`;
  return name;
}
