import { expect, test } from 'vitest';
import { Course } from './course';
import { commonAxis, lines, marks, valueAt, type Drawing, type RunOnPlot } from './lines';
import { positive, smoothed } from './smooth';

const words = { heldOut: 'Held out', heldOutOf: (name: string) => `${name}, held out` };

function run(id: string, loss: (number | null)[], withTime = true): RunOnPlot {
  const course = Course.of({
    steps: loss.map((_, i) => i + 1),
    loss,
    rate: loss.map(() => 1),
    grad_norm: loss,
    tokens_per_second: loss,
    seconds: withTime ? loss.map((_, i) => i * 10) : null,
    evaluations: [{ step: 2, loss: 1.5, is_best: true }],
    samples: [],
    notes: [{ step: 1, kind: 'left_out', reason: 'not finite' }],
    n_lines: 0,
  });
  return { id, name: id, course, colour: 0 };
}
const drawing: Drawing = { axis: 'steps', metric: 'loss', smoothing: 0.5, log: false };

test('the average begins at the first value and follows what comes', () => {
  expect(smoothed([2, 2, 2], 0.9)).toEqual([2, 2, 2].map((n) => expect.closeTo(n)));
  expect(smoothed([4, 2], 0.5)).toEqual([4, expect.closeTo((0.5 * 2 + 0.25 * 4) / 0.75)]);
  expect(smoothed([4, null, 2], 0)).toEqual([4, null, 2]);
});

test('a gap stays a gap and does not spoil what follows', () => {
  expect(smoothed([1, null, 1], 0.9)).toEqual([1, null, expect.closeTo(1)]);
});

test('a logarithmic axis leaves out what it cannot show', () => {
  expect(positive([1, 0, -1, null])).toEqual([1, null, null, null]);
});

test('one run has its measured line behind the smooth one, and its evaluations as dots', () => {
  const found = lines([run('a', [3, 2])], drawing, words);
  expect(found.map(({ key, look, label }) => [key, look, label])).toEqual([
    ['a-raw', 'faint', 'a'],
    ['a', 'line', 'a'],
    ['a-held-out', 'dots', 'Held out'],
  ]);
  expect(found[2]?.xs).toEqual([2]);
});

test('the learning rate is not smoothed, and only the loss has evaluations', () => {
  const found = lines([run('a', [3, 2])], { ...drawing, metric: 'rate' }, words);
  expect(found.map(({ look }) => look)).toEqual(['line']);
});

test('of many runs only the smooth lines are drawn, each with its name', () => {
  const found = lines(
    ['a', 'b', 'c'].map((id) => run(id, [3, 2])),
    drawing,
    words,
  );
  expect(found.filter(({ look }) => look === 'faint')).toEqual([]);
  expect(found.at(-1)?.label).toBe('c, held out');
});

test('runs share an axis that all of them can tell', () => {
  const runs = [run('a', [3, 2]), run('b', [3, 2], false)];
  expect(commonAxis(runs.slice(0, 1), 'time')).toBe('time');
  expect(commonAxis(runs, 'time')).toBe('steps');
});

test('what happened on the way has its place', () => {
  expect(marks([run('a', [3, 2])], 'time')).toEqual([{ x: 0, kind: 'left_out' }]);
});

test('a value is the last one at a place, and none beyond the end', () => {
  const line = { key: '', label: '', colour: 0, look: 'line' as const, xs: [1, 3], ys: [10, 30] };
  expect(valueAt(line, 0)).toBeNull();
  expect(valueAt(line, 2)).toBe(10);
  expect(valueAt(line, 3)).toBe(30);
  expect(valueAt(line, 4)).toBeNull();
  expect(valueAt({ ...line, look: 'dots' }, 4)).toBe(30);
});
