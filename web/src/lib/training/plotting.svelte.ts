/** How a person wants plots drawn; this browser remembers it. */
import type { Axis } from './course';

const KEY = 'daybreak.plots';

interface Saved {
  /** Share of the past in the average, 0 to below 1. */
  smoothing: number;
  log: boolean;
  axis: Axis;
}

const DEFAULTS: Saved = { smoothing: 0.6, log: false, axis: 'steps' };

export class Plotting {
  #saved = $state<Saved>({ ...DEFAULTS, ...read() });

  get smoothing() {
    return this.#saved.smoothing;
  }
  get log() {
    return this.#saved.log;
  }
  get axis() {
    return this.#saved.axis;
  }

  change(values: Partial<Saved>) {
    Object.assign(this.#saved, values);
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#saved));
    } catch {
      // Storage is full or closed: the choice holds until the page is left.
    }
  }
}

function read(): Partial<Saved> {
  try {
    const { smoothing, log, axis } = JSON.parse(
      localStorage.getItem(KEY) ?? '{}',
    ) as Partial<Saved>;
    return {
      ...(typeof smoothing === 'number' && smoothing >= 0 && smoothing < 1 ? { smoothing } : {}),
      ...(typeof log === 'boolean' ? { log } : {}),
      ...(axis === 'steps' || axis === 'time' || axis === 'tokens' ? { axis } : {}),
    };
  } catch {
    return {};
  }
}
