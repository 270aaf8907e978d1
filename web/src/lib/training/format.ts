/** Figures of a run as a person of this language writes them. */
import type { Locale } from '../format';
import type { SettingValue } from './wire';

const UNITS = {
  en: { d: ' d', h: ' h', min: ' min', s: ' s', ms: ' ms' },
  'zh-CN': { d: ' 天', h: ' 小时', min: ' 分', s: ' 秒', ms: ' 毫秒' },
} as const;

/** 4000 → "1 h 7 min": the two largest parts. */
export function duration(seconds: number, locale: Locale): string {
  const unit = UNITS[locale];
  if (!Number.isFinite(seconds) || seconds < 0) return '–';
  if (seconds < 1) return seconds === 0 ? `0${unit.s}` : `${Math.ceil(seconds * 1000)}${unit.ms}`;
  const total = Math.round(seconds);
  const parts: [number, string][] = [
    [Math.floor(total / 86_400), unit.d],
    [Math.floor(total / 3600) % 24, unit.h],
    [Math.floor(total / 60) % 60, unit.min],
    [total % 60, unit.s],
  ];
  const first = parts.findIndex(([n]) => n > 0);
  return parts
    .slice(first, first + 2)
    .filter(([n]) => n > 0)
    .map(([n, name]) => `${n}${name}`)
    .join(' ');
}

/** A number with about four digits that count, whatever its size: 3.142, 0.0003, 1.2e-7, 12,345. */
export function figure(value: number | null | undefined, locale: Locale): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-4)
    return value
      .toExponential(2)
      .replace('e-', '×10⁻')
      .replace(/⁻(\d+)$/, superscript);
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 3 : 5;
  return new Intl.NumberFormat(locale, {
    maximumFractionDigits: digits,
    maximumSignificantDigits: size < 1 ? 4 : undefined,
  }).format(value);
}

function superscript(_: string, digits: string): string {
  return `⁻${[...digits].map((digit) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(digit)]).join('')}`;
}

/** 12345678 → "12.3M" or "1234.6万": large counts at a glance. */
export function shortCount(value: number, locale: Locale): string {
  return new Intl.NumberFormat(locale, {
    notation: 'compact',
    maximumFractionDigits: value < 1e4 ? 0 : 1,
  }).format(value);
}

export function percent(share: number, locale: Locale): string {
  return new Intl.NumberFormat(locale, {
    style: 'percent',
    maximumFractionDigits: share < 0.1 && share > 0 ? 1 : 0,
  }).format(share);
}

export function moment(ms: number, locale: Locale): string {
  return new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' }).format(ms);
}

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/** "90s", "30m", "1h30m", "2d" → seconds, as the command line reads them; null where it is none of them. */
export function parseDuration(text: string): number | null {
  const clean = text.replaceAll(/\s/g, '').toLowerCase();
  if (!/^(\d+(\.\d+)?[smhd])+$/.test(clean)) return null;
  let seconds = 0;
  for (const [, n, unit] of clean.matchAll(/(\d+(?:\.\d+)?)([smhd])/g))
    seconds += Number(n) * SECONDS[unit as keyof typeof SECONDS];
  return seconds > 0 ? seconds : null;
}

export function settingText(value: SettingValue | null | undefined): string {
  if (value === null || value === undefined) return '';
  return Array.isArray(value) ? value.join('\n') : String(value);
}

/** What stands in a command line so that a shell reads it as one word. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
