/**
 * One run on the screen: its record, its course, and the stream that keeps both fresh. The stream may break off at any
 * time; it is picked up behind the last line that arrived, for as long as the run is looked at.
 */
import { ApiError } from '../api';
import { pause } from '../stores/pause';
import type { TrainingApi } from './api';
import { Course } from './course';
import { isGoing, type Run, type Stage } from './wire';

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
/** A fast run takes many steps a second; the eye needs no more than this. */
const REDRAW_MS = 300;
/** Points of the first drawing. */
const SERIES_POINTS = 2000;

export class RunView {
  readonly id: string;
  readonly #api: TrainingApi;
  readonly #onError: (error: unknown) => void;
  readonly #onRun: (run: Run) => void;
  #run = $state.raw<Run | null>(null);
  #status = $state<'loading' | 'ready' | 'missing' | 'failed'>('loading');
  /** Whether the line is gone and is being sought. */
  #seeking = $state(false);
  #version = $state(0);
  #course = new Course();
  /** Whose course it is; null in a run of one stage. */
  #stage = $state<Stage | null>(null);
  /** The one that was asked for; null: the one that the run is at. */
  #wanted: Stage | null = null;
  #following: AbortController | null = null;
  #redraw: ReturnType<typeof setTimeout> | undefined;

  constructor(
    api: TrainingApi,
    id: string,
    hooks: { onError: (error: unknown) => void; onRun: (run: Run) => void },
  ) {
    this.#api = api;
    this.id = id;
    this.#onError = hooks.onError;
    this.#onRun = hooks.onRun;
  }

  get run() {
    return this.#run;
  }
  get status() {
    return this.#status;
  }
  get seeking() {
    return this.#seeking;
  }
  /** The stage that is shown, in a run of several. */
  get stage() {
    return this.#stage;
  }
  /** The course, read anew whenever it has grown. */
  get course(): Course {
    void this.#version;
    return this.#course;
  }

  /** Fetches the run and follows it, until `close`. */
  async open() {
    this.close();
    const following = new AbortController();
    this.#following = following;
    const { signal } = following;
    let wait = FIRST_WAIT_MS;
    while (!signal.aborted) {
      try {
        if (this.#status !== 'ready' || this.#seeking) await this.#load(signal);
        if (signal.aborted || !this.#run || !isGoing(this.#run.status)) return;
        const isWhole = await this.#follow(signal, () => (wait = FIRST_WAIT_MS));
        if (signal.aborted || !this.#run || !isGoing(this.#run.status)) return;
        if (isWhole) continue;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && error.status === 404) {
          this.#status = 'missing';
          return;
        }
        this.#onError(error);
        if (this.#status === 'loading') this.#status = 'failed';
        if (error instanceof ApiError) return;
      }
      this.#seeking = true;
      await pause(wait);
      wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    }
  }

  /** The stage that the run is at, in a run of several. */
  get #newest(): Stage | null {
    return this.#run?.stages?.findLast((stage) => stage.has_begun)?.name ?? null;
  }

  /** Shows the course of another stage; with the newest, that of the next is shown once it begins. */
  show(stage: Stage) {
    this.#wanted = this.#newest === stage ? null : stage;
    this.#stage = stage;
    this.#status = 'loading';
    void this.open();
  }

  close() {
    this.#following?.abort();
    this.#following = null;
    this.#seeking = false;
  }

  /** Puts what an action has answered on the screen; a run that goes on is followed again. */
  take(run: Run) {
    const starts = isGoing(run.status) && !(this.#run && isGoing(this.#run.status));
    this.#see(run);
    if (!starts) return;
    this.#status = 'loading';
    void this.open();
  }

  #see(run: Run) {
    this.#run = run;
    this.#onRun(run);
  }

  #grew() {
    if (this.#redraw !== undefined) return;
    this.#redraw = setTimeout(() => {
      this.#redraw = undefined;
      this.#version += 1;
    }, REDRAW_MS);
  }

  async #load(signal: AbortSignal) {
    const [run, series] = await Promise.all([
      this.#api.run(this.id),
      this.#api.series(this.id, SERIES_POINTS, this.#wanted),
    ]);
    if (signal.aborted) return;
    this.#course = Course.of(series);
    this.#stage = series.stage ?? null;
    this.#version += 1;
    this.#seeking = false;
    this.#status = 'ready';
    this.#see(run);
  }

  /** Whether the stream came to an end of its own, and did not break off. */
  async #follow(signal: AbortSignal, onLine: () => void): Promise<boolean> {
    const { lastId } = this.#course;
    for await (const events of this.#api.events(this.id, lastId, this.#stage, signal)) {
      onLine();
      let grew = false;
      for (const event of events) {
        if (event.type === 'run') this.#see(event.run);
        else if (event.type === 'log') {
          this.#course.take(event.id, event.event);
          grew = true;
        }
      }
      if (grew) this.#grew();
      if (events.some((event) => event.type === 'end')) {
        this.#see(await this.#api.run(this.id));
        return true;
      }
      const isNext = this.#wanted === null && this.#newest !== this.#stage;
      if (isNext || events.some((event) => event.type === 'reset')) {
        await this.#load(signal);
        return true;
      }
    }
    return false;
  }
}
