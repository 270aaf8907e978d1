import { expect, test } from 'vitest';
import { Course, keptBy, MAX_POINTS, placeOf, places } from './course';
import type { LogEvent, Series } from './wire';

const step = (n: number, loss: number | null = n): LogEvent => ({
  event: 'step',
  step: n,
  loss,
  rate: 1,
  grad_norm: 0.5,
  n_tokens: n * 100,
  epochs: 0,
  tokens_per_second: 1000,
  seconds: n * 2,
});

function filled(n: number): Course {
  const course = new Course();
  for (let i = 1; i <= n; i += 1) course.take(i, step(i));
  return course;
}

test('steps come one after the other, with the number of their line', () => {
  const course = filled(3);
  expect(course.steps).toEqual([1, 2, 3]);
  expect(course.loss).toEqual([1, 2, 3]);
  expect(course.lastId).toBe(3);
});

test('a loss that is not finite leaves a gap', () => {
  const course = filled(1);
  course.take(2, step(2, null));
  expect(course.loss).toEqual([1, null]);
});

test('a run that went back takes its steps again, and the notes say so', () => {
  const course = filled(5);
  course.take(6, { event: 'evaluated', step: 5, loss: 4, is_best: true });
  course.take(7, { event: 'rolled_back', step: 2, reason: 'the loss jumped' });
  expect(course.steps).toEqual([1, 2]);
  expect(course.evaluations).toEqual([]);
  course.take(8, step(3, 0.5));
  expect(course.loss).toEqual([1, 2, 0.5]);
  expect(course.notes).toEqual([{ step: 2, kind: 'rolled_back', reason: 'the loss jumped' }]);
});

test('a log that is read again from its beginning changes nothing', () => {
  const events: LogEvent[] = [
    { event: 'evaluated', step: 0, loss: 9, bits_per_byte: 3, is_best: true },
    step(1),
    step(2),
    { event: 'left_out', step: 2, reason: 'not finite' },
    { event: 'evaluated', step: 2, loss: 4, is_best: true },
    { event: 'sample', step: 2, prompt: 'The', text: ' cat' },
    { event: 'sample', step: 2, prompt: '今天', text: '天气' },
  ];
  const course = new Course();
  events.forEach((event, i) => course.take(i + 1, event));
  const before = structuredClone({ ...course });
  events.forEach((event, i) => course.take(i + 1, event));
  expect({ ...course }).toEqual(before);
  expect(course.samples).toHaveLength(2);
});

test('a resumed run goes on behind its checkpoint', () => {
  const course = filled(4);
  course.take(5, { event: 'sample', step: 4, prompt: 'a', text: 'b' });
  course.take(3, { event: 'resumed', step: 3 });
  expect(course.steps).toEqual([1, 2, 3]);
  expect(course.samples).toEqual([]);
  expect(course.lastId).toBe(3);
});

test('a long run stays bounded and keeps its first and last part', () => {
  const course = filled(2 * MAX_POINTS + 10);
  expect(course.length).toBeLessThan(2 * MAX_POINTS);
  expect(course.steps.at(-1)).toBe(2 * MAX_POINTS + 10);
  expect(course.loss).toHaveLength(course.length);
  expect(course.steps.every((n, i) => i === 0 || n > (course.steps[i - 1] ?? 0))).toBe(true);
});

test('points are kept evenly, the last one always', () => {
  expect(keptBy(3, 5)).toEqual([0, 1, 2]);
  expect(keptBy(10, 5)).toEqual([1, 3, 5, 7, 9]);
  expect(keptBy(7, 3).at(-1)).toBe(6);
});

const series: Series = {
  steps: [10, 20],
  loss: [3, 2],
  rate: [1, 1],
  grad_norm: [1, 1],
  tokens_per_second: [5, 5],
  evaluations: [],
  samples: [],
  notes: [],
  n_lines: 0,
};

test('a series without times can be drawn along steps only', () => {
  const course = Course.of(series);
  expect(places(course, 'steps')).toEqual([10, 20]);
  expect(places(course, 'time')).toBeNull();
  expect(course.lastId).toBe(0);
});

test('an evaluation between two points stands between them', () => {
  const course = Course.of({ ...series, seconds: [100, 200], n_lines: 40 });
  expect(course.lastId).toBe(40);
  expect(placeOf(course, 'time', 0)).toBe(0);
  expect(placeOf(course, 'time', 5)).toBe(50);
  expect(placeOf(course, 'time', 15)).toBe(150);
  expect(placeOf(course, 'time', 20)).toBe(200);
  expect(placeOf(course, 'time', 99)).toBe(200);
  expect(placeOf(course, 'steps', 15)).toBe(15);
});
