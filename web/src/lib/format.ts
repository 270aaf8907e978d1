/** Numbers, sizes and dates as a person of this language writes them. */

export type Locale = 'en' | 'zh-CN';

export function formatCount(n: number, locale: Locale): string {
  return new Intl.NumberFormat(locale).format(n);
}

/** 1234 → "1.2k": for places where the exact number is one click away. */
export function formatShort(n: number): string {
  if (n < 1000) return String(n);
  return `${(n / 1000).toFixed(n < 9950 ? 1 : 0).replace(/\.0$/, '')}k`;
}

/** Context lengths are powers of two: 32768 → "32K". */
export function formatContext(n: number): string {
  return n < 1024 ? String(n) : `${Math.round(n / 1024)}K`;
}

/** Decimal units, as disks and downloads state them. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} kB`;
  if (bytes < 1e9) return `${Math.round(bytes / 1e6)} MB`;
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

export function formatParameters(n: number): string {
  if (n >= 0.95e9) return `${(n / 1e9).toFixed(1).replace(/\.0$/, '')}B`;
  return `${Math.round(n / 1e6)}M`;
}

export function formatSpeed(tokensPerSecond: number): string {
  return tokensPerSecond >= 100 ? tokensPerSecond.toFixed(0) : tokensPerSecond.toFixed(1);
}

export function formatSeconds(seconds: number): string {
  // Fast is not "0.0".
  if (seconds < 0.1) return seconds.toFixed(2);
  if (seconds < 10) return seconds.toFixed(1);
  return Math.round(seconds).toString();
}

export function languageName(tag: string, locale: Locale): string {
  try {
    return new Intl.DisplayNames([locale], { type: 'language' }).of(tag) ?? tag;
  } catch {
    return tag;
  }
}

export type DateGroup = 'today' | 'yesterday' | 'week' | 'month' | { year: number; month: number };

/** The heading under which a conversation of this date stands in the sidebar. */
export function dateGroup(date: Date, now: Date): DateGroup {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const day = 86_400_000;
  const time = date.getTime();
  if (time >= midnight) return 'today';
  if (time >= midnight - day) return 'yesterday';
  if (time >= midnight - 7 * day) return 'week';
  if (time >= midnight - 30 * day) return 'month';
  return { year: date.getFullYear(), month: date.getMonth() };
}
