/** Lines → pixels, by uPlot. Its own legend stays off: the page tells the values itself. */
import type UPlotClass from 'uplot';
import type { AlignedData, Options, Series } from 'uplot';
import type { Line, Mark } from '$lib/training/lines';

export type UPlot = typeof UPlotClass;

interface Wanted {
  lines: Line[];
  marks: Mark[];
  log: boolean;
  group: string;
  formatX: (x: number) => string;
  formatY: (y: number) => string;
  onCursor: (x: number | null) => void;
  onZoom: (zoomed: boolean) => void;
}

export interface Drawn {
  set: (lines: Line[], marks: Mark[]) => void;
  /** By so many hundredths of the width; null takes it away. */
  moveCursor: (hundredths: number | null) => void;
  showAll: () => void;
  destroy: () => void;
}

/** Fetched with the first plot. */
export async function fetchUPlot(): Promise<UPlot> {
  const [{ default: uPlot }] = await Promise.all([
    import('uplot'),
    import('uplot/dist/uPlot.min.css'),
  ]);
  return uPlot;
}

export function drawn(uPlot: UPlot, node: HTMLElement, wanted: Wanted): Drawn {
  let { lines, marks } = wanted;
  const colour = resolver(node);
  const size = () => ({ width: Math.max(120, node.clientWidth), height: node.clientHeight });
  const font = `12px ${getComputedStyle(node).fontFamily}`;
  const axis = {
    stroke: colour('--muted'),
    font,
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { show: false },
  };
  const options: Options = {
    ...size(),
    padding: [8, 12, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      sync: { key: wanted.group, setSeries: false },
      drag: { x: true, y: false },
      points: { size: 7 },
    },
    scales: { x: { time: false }, y: wanted.log ? { distr: 3 } : {} },
    axes: [
      { ...axis, space: 52, size: 28, values: (_, splits) => splits.map(wanted.formatX) },
      {
        ...axis,
        space: 36,
        size: 58,
        // A logarithmic axis leaves out some of its lines' words: those come as null.
        values: (_, splits) =>
          splits.map((y: number | null) => (y === null ? '' : wanted.formatY(y))),
      },
    ],
    series: [{}, ...lines.map((line) => series(line, colour))],
    hooks: {
      draw: [(u) => drawMarks(u, marks, colour('--line-strong'))],
      setCursor: [
        (u) => {
          const { left, idx } = u.cursor;
          const x = left === undefined || left < 0 || idx == null ? null : u.data[0]?.[idx];
          wanted.onCursor(x ?? null);
        },
      ],
      setScale: [
        (u, key) => {
          if (key === 'x') wanted.onZoom(isZoomed(u));
        },
      ],
    },
  };
  const u = new uPlot(options, aligned(uPlot, lines), node);
  const watch = new ResizeObserver(() => {
    const wantedSize = size();
    if (wantedSize.width !== u.width || wantedSize.height !== u.height) u.setSize(wantedSize);
  });
  watch.observe(node);

  return {
    set(newLines, newMarks) {
      if (newLines === lines && newMarks === marks) return;
      lines = newLines;
      marks = newMarks;
      // Who looks at a part keeps it while the run goes on.
      const range = isZoomed(u)
        ? { min: u.scales['x']?.min ?? 0, max: u.scales['x']?.max ?? 1 }
        : null;
      u.batch(() => {
        u.setData(aligned(uPlot, lines));
        if (range) u.setScale('x', range);
      });
    },
    moveCursor(hundredths) {
      if (hundredths === null) {
        u.setCursor({ left: -10, top: -10 });
        return;
      }
      const width = u.over.clientWidth;
      const from = (u.cursor.left ?? -1) >= 0 ? (u.cursor.left ?? 0) : width;
      const left = Math.min(width, Math.max(0, from + (hundredths * width) / 100));
      u.setCursor({ left, top: u.over.clientHeight / 2 });
    },
    showAll() {
      u.setData(u.data);
    },
    destroy() {
      watch.disconnect();
      u.destroy();
    },
  };
}

function series(line: Line, colour: (name: string) => string): Series {
  const stroke = colour(`--run-${line.colour}`);
  const common = { label: line.label, spanGaps: false };
  if (line.look === 'dots')
    return {
      ...common,
      stroke,
      paths: () => null,
      points: { show: true, size: 8, width: 2, stroke, fill: colour('--surface') },
    };
  if (line.look === 'faint')
    return { ...common, stroke, alpha: 0.4, width: 1, points: { show: false } };
  // A line of one point would not be seen.
  return {
    ...common,
    stroke,
    width: 2,
    points: { show: line.xs.length < 2, size: 5, fill: stroke },
  };
}

/** uPlot wants one x for all; where lines have places of their own it joins them. */
function aligned(uPlot: UPlot, lines: Line[]): AlignedData {
  const [first] = lines;
  if (!first) return [[], []];
  if (lines.every((line) => line.xs === first.xs))
    return [first.xs, ...lines.map((line) => line.ys)] as AlignedData;
  return uPlot.join(lines.map((line) => [line.xs, line.ys] as AlignedData));
}

function isZoomed(u: UPlotClass): boolean {
  const xs = u.data[0] ?? [];
  const { min, max } = u.scales['x'] ?? {};
  const [first, last] = [xs[0], xs[xs.length - 1]];
  if (min == null || max == null || first === undefined || last === undefined) return false;
  return min > first || max < last;
}

/** Dotted lines where the run left out a step, went back or went on. */
function drawMarks(u: UPlotClass, marks: Mark[], colour: string) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const { x } of marks) {
    const left = u.valToPos(x, 'x', true);
    if (left < bbox.left || left > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

/** A canvas knows no variables and no `light-dark()`: what they are just now is asked of an element. */
function resolver(node: HTMLElement): (name: string) => string {
  return (name) => {
    const probe = document.createElement('i');
    probe.style.color = `var(${name})`;
    node.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  };
}
