/** Noisy columns → lines that the eye can follow. */
import type { Column } from './course';

/**
 * The exponential moving average, corrected at its beginning so that the first points are not drawn towards zero.
 * `weight` is the share of the past, 0 (none) to below 1. A gap stays a gap and is not averaged over.
 */
export function smoothed(values: Column, weight: number): Column {
  if (weight <= 0) return values;
  let sum = 0;
  let total = 0;
  return values.map((value) => {
    if (value === null || !Number.isFinite(value)) return null;
    sum = sum * weight + value * (1 - weight);
    total = total * weight + (1 - weight);
    return sum / total;
  });
}

/** What a logarithmic axis can show of a column. */
export function positive(values: Column): Column {
  return values.map((value) => (value !== null && value > 0 ? value : null));
}
