/** Courses of one or several runs → the lines of one plot. */
import { placeOf, places, type Axis, type Column, type Course, type Metric } from './course';
import { positive, smoothed } from './smooth';

/** Runs that one plot holds: as many as there are colours that are told apart. */
export const MAX_RUNS = 8;

export interface RunOnPlot {
  id: string;
  name: string;
  course: Course;
  /** Which of the colours, from 0. */
  colour: number;
}

export interface Line {
  key: string;
  label: string;
  colour: number;
  look: 'line' | 'faint' | 'dots';
  xs: number[];
  ys: Column;
}

export interface Mark {
  x: number;
  kind: string;
}

export interface Drawing {
  axis: Axis;
  metric: Metric;
  smoothing: number;
  log: boolean;
}

/** What words the lines need. */
export interface LineWords {
  heldOut: string;
  heldOutOf: (name: string) => string;
}

/** The axis that all of these runs can be drawn along: the wanted one, else the steps. */
export function commonAxis(runs: readonly RunOnPlot[], wanted: Axis): Axis {
  return runs.every((run) => places(run.course, wanted) !== null) ? wanted : 'steps';
}

export function lines(runs: readonly RunOnPlot[], drawing: Drawing, words: LineWords): Line[] {
  const { axis, metric, log } = drawing;
  // The schedule is no measurement: there is nothing to smooth.
  const weight = metric === 'rate' ? 0 : drawing.smoothing;
  const shown = (values: Column) => (log && metric === 'loss' ? positive(values) : values);
  const found: Line[] = [];
  for (const { id, name, course, colour } of runs) {
    const xs = places(course, axis);
    if (!xs) continue;
    const raw = shown(course[metric]);
    const common = { label: name, colour, xs };
    // Behind many smooth lines the measured ones would only be fog.
    if (weight > 0 && runs.length <= 2)
      found.push({ ...common, key: `${id}-raw`, look: 'faint', ys: raw });
    found.push({ ...common, key: id, look: 'line', ys: shown(smoothed(course[metric], weight)) });
    if (metric !== 'loss') continue;
    const points = course.evaluations
      .map(({ step, loss }) => ({ x: placeOf(course, axis, step), y: loss }))
      .filter((point): point is { x: number; y: number | null } => point.x !== null);
    if (points.length > 0)
      found.push({
        key: `${id}-held-out`,
        label: runs.length > 1 ? words.heldOutOf(name) : words.heldOut,
        colour,
        look: 'dots',
        xs: points.map(({ x }) => x),
        ys: shown(points.map(({ y }) => y)),
      });
  }
  return found;
}

/** Where something happened that the curve alone does not tell. */
export function marks(runs: readonly RunOnPlot[], axis: Axis): Mark[] {
  return runs.flatMap(({ course }) =>
    course.notes
      .map(({ step, kind }) => ({ x: placeOf(course, axis, step), kind }))
      .filter((mark): mark is Mark => mark.x !== null),
  );
}

/** The last value at or before a place; null where the line has none there. */
export function valueAt(line: Line, x: number): number | null {
  let low = 0;
  let high = line.xs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((line.xs[middle] ?? Infinity) <= x) low = middle + 1;
    else high = middle;
  }
  // Beyond its last point a line says nothing, but for dots, which hold until the next one.
  if (low === line.xs.length && line.look !== 'dots' && (line.xs.at(-1) ?? -Infinity) < x)
    return null;
  return line.ys[low - 1] ?? null;
}
