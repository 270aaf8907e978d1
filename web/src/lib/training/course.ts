/**
 * The course of a run: what its log tells, line by line, as columns that a plot can draw.
 * It is filled from the thinned series that the server keeps ready, then goes on with live lines. A run that went back
 * to a checkpoint takes steps again; the columns then hold the course that counts.
 */
import type { Evaluation, LogEvent, ModelSample, Note, Series } from './wire';

export type Column = (number | null)[];

export const METRICS = ['loss', 'rate', 'grad_norm', 'tokens_per_second'] as const;
export type Metric = (typeof METRICS)[number];

/** More points than a screen has columns; twice as many are thinned to this. */
export const MAX_POINTS = 4000;
/** Samples and notes that are kept, the newest. */
const MAX_SAMPLES = 500;
const MAX_NOTES = 500;

export class Course {
  steps: number[] = [];
  seconds: Column = [];
  n_tokens: Column = [];
  loss: Column = [];
  rate: Column = [];
  grad_norm: Column = [];
  tokens_per_second: Column = [];
  evaluations: Evaluation[] = [];
  samples: ModelSample[] = [];
  notes: Note[] = [];
  /** Number of the last line that is in here. */
  lastId = 0;

  static of(series: Series): Course {
    const course = new Course();
    const n = series.steps.length;
    const column = (values: Column | null | undefined): Column =>
      Array.from({ length: n }, (_, i) => values?.[i] ?? null);
    course.steps = [...series.steps];
    course.seconds = column(series.seconds);
    course.n_tokens = column(series.n_tokens);
    for (const metric of METRICS) course[metric] = column(series[metric]);
    course.evaluations = [...series.evaluations];
    course.samples = series.samples.slice(-MAX_SAMPLES);
    course.notes = series.notes.slice(-MAX_NOTES);
    course.lastId = series.n_lines;
    return course;
  }

  get length() {
    return this.steps.length;
  }

  take(id: number, event: LogEvent) {
    this.lastId = id;
    switch (event.event) {
      case 'step':
        this.#dropFrom(event.step);
        this.steps.push(event.step);
        this.seconds.push(event.seconds);
        this.n_tokens.push(event.n_tokens);
        for (const metric of METRICS) this[metric].push(event[metric]);
        if (this.steps.length >= 2 * MAX_POINTS) this.#thin();
        return;
      case 'evaluated': {
        const others = this.evaluations.filter((other) => other.step < event.step);
        this.evaluations = [...others, event];
        return;
      }
      case 'sample': {
        const { step, prompt } = event;
        const others = this.samples.filter(
          (other) => other.step < step || (other.step === step && other.prompt !== prompt),
        );
        this.samples = [...others, event].slice(-MAX_SAMPLES);
        return;
      }
      case 'resumed':
      case 'rolled_back':
        this.#dropFrom(event.step + 1);
        this.evaluations = this.evaluations.filter((other) => other.step <= event.step);
        this.samples = this.samples.filter((other) => other.step <= event.step);
        this.#note(event.event, event.step, 'reason' in event ? event.reason : null);
        return;
      case 'left_out':
        this.#note('left_out', event.step, event.reason);
        return;
      case 'stopped_early':
        this.#note('stopped_early', event.step, null);
        return;
      case 'saved':
      case 'done':
        return;
    }
  }

  #note(kind: string, step: number, reason: string | null) {
    const others = this.notes.filter((note) => note.kind !== kind || note.step !== step);
    this.notes = [...others, { step, kind, reason }].slice(-MAX_NOTES);
  }

  /** A step that comes again replaces what was behind it. */
  #dropFrom(step: number) {
    let n = this.steps.length;
    while (n > 0 && (this.steps[n - 1] ?? 0) >= step) n -= 1;
    if (n === this.steps.length) return;
    this.steps.length = n;
    this.seconds.length = n;
    this.n_tokens.length = n;
    for (const metric of METRICS) this[metric].length = n;
  }

  /** Every second point goes; the last one stays. */
  #thin() {
    const kept = keptBy(this.steps.length, MAX_POINTS);
    const pick = <T>(values: T[]) => kept.map((i) => values[i] as T);
    this.steps = pick(this.steps);
    this.seconds = pick(this.seconds);
    this.n_tokens = pick(this.n_tokens);
    for (const metric of METRICS) this[metric] = pick(this[metric]);
  }
}

/** Indices of at most `max` of `n` points, evenly apart, the last one among them. */
export function keptBy(n: number, max: number): number[] {
  if (n <= max) return Array.from({ length: n }, (_, i) => i);
  return Array.from({ length: max }, (_, i) => Math.round(((i + 1) * n) / max) - 1);
}

export type Axis = 'steps' | 'time' | 'tokens';

/** The places of the points along an axis; none where the run does not tell them. */
export function places(course: Course, axis: Axis): number[] | null {
  if (axis === 'steps') return course.steps;
  const column = axis === 'time' ? course.seconds : course.n_tokens;
  return column.every((value) => value !== null) ? (column as number[]) : null;
}

/** The place of any step along an axis, between the points that are known. */
export function placeOf(course: Course, axis: Axis, step: number): number | null {
  const xs = places(course, axis);
  if (!xs) return null;
  if (axis === 'steps') return step;
  const { steps } = course;
  const at = steps.findIndex((other) => other >= step);
  const [x, before] = [xs[at], xs[at - 1]];
  if (at === -1) return xs.at(-1) ?? null;
  if (x === undefined) return null;
  // Before the first step lies the beginning, where nothing was done yet.
  const from = { step: steps[at - 1] ?? 0, x: before ?? 0 };
  const to = steps[at] ?? step;
  return to === from.step ? x : from.x + ((step - from.step) / (to - from.step)) * (x - from.x);
}
