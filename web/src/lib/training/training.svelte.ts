/** Training as a whole: recipes, data and runs, and which place of it is on the screen. */
import { createContext } from 'svelte';
import { ApiError, Unreachable } from '../api';
import { errorText } from '../i18n/errors';
import type { App } from '../stores/app.svelte';
import { createTrainingApi, type TrainingApi } from './api';
import { en, type TrainingCatalogue } from './i18n/en';
import { zh } from './i18n/zh';
import { parsePlace, placePath, type Place } from './place';
import { isGoing, type Dataset, type Recipe, type Run } from './wire';

/** How often the list asks while something is going on. */
const POLL_MS = 2000;

export type Fetched = 'loading' | 'ready' | 'failed';

export const [useTraining, provideTraining] = createContext<Training>();

export class Training {
  readonly app: App;
  readonly api: TrainingApi;
  readonly t: TrainingCatalogue = $derived.by(() => (this.locale === 'zh-CN' ? zh : en));
  readonly place: Place = $derived.by(() => {
    const { route } = this.app.router;
    return parsePlace(route.kind === 'training' ? route.place : '');
  });
  #recipes = $state.raw<Recipe[]>([]);
  #datasets = $state.raw<Dataset[]>([]);
  #runs = $state.raw<Run[]>([]);
  #fetched = $state<Record<'recipes' | 'datasets' | 'runs', Fetched>>({
    recipes: 'loading',
    datasets: 'loading',
    runs: 'loading',
  });
  #timer: ReturnType<typeof setTimeout> | undefined;
  #open = false;

  constructor(app: App) {
    this.app = app;
    this.api = createTrainingApi(app.api.call);
  }

  get locale() {
    return this.app.locale;
  }
  get recipes(): readonly Recipe[] {
    return this.#recipes;
  }
  get datasets(): readonly Dataset[] {
    return this.#datasets;
  }
  get runs(): readonly Run[] {
    return this.#runs;
  }
  get fetched(): Readonly<Record<'recipes' | 'datasets' | 'runs', Fetched>> {
    return this.#fetched;
  }

  recipe(id: string | null | undefined): Recipe | null {
    return this.#recipes.find((recipe) => recipe.id === id) ?? null;
  }
  dataset(name: string | null | undefined): Dataset | null {
    return this.#datasets.find((dataset) => dataset.name === name) ?? null;
  }

  /** Fetches everything and keeps the list of runs fresh, until `close`. */
  open() {
    this.#open = true;
    void this.refresh();
  }

  close() {
    this.#open = false;
    clearTimeout(this.#timer);
  }

  async refresh() {
    await Promise.all([this.refreshRecipes(), this.refreshDatasets(), this.refreshRuns()]);
  }

  refreshRecipes = () =>
    this.#fetch('recipes', async () => (this.#recipes = await this.api.recipes()));
  refreshDatasets = () =>
    this.#fetch('datasets', async () => (this.#datasets = await this.api.datasets()));

  refreshRuns = async () => {
    clearTimeout(this.#timer);
    await this.#fetch('runs', async () => (this.#runs = await this.api.runs()));
    const going = this.#runs.some((run) => isGoing(run.status));
    if (this.#open && going) this.#timer = setTimeout(() => void this.refreshRuns(), POLL_MS);
  };

  async #fetch(what: 'recipes' | 'datasets' | 'runs', call: () => Promise<unknown>) {
    try {
      await call();
      this.#fetched[what] = 'ready';
    } catch (error) {
      // What is on the screen already stays there.
      if (this.#fetched[what] !== 'ready') this.#fetched[what] = 'failed';
      if (error instanceof Unreachable || (error instanceof ApiError && error.status === 401))
        this.report(error);
    }
  }

  /** A run is there, or is another than it was. */
  put(run: Run) {
    const others = this.#runs.filter((other) => other.id !== run.id);
    this.#runs = [run, ...others].toSorted((a, b) => b.created_at - a.created_at);
    if (this.#open && isGoing(run.status)) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => void this.refreshRuns(), POLL_MS);
    }
  }

  putDataset(dataset: Dataset) {
    const others = this.#datasets.filter((other) => other.name !== dataset.name);
    this.#datasets = [dataset, ...others];
  }

  async deleteRun(run: Run): Promise<boolean> {
    if (!(await this.#act(this.api.deleteRun(run.id)))) return false;
    this.#runs = this.#runs.filter((other) => other.id !== run.id);
    this.app.toasts.show(this.t.run.deleted(run.name));
    return true;
  }

  async deleteDataset(name: string): Promise<boolean> {
    if (!(await this.#act(this.api.deleteDataset(name)))) return false;
    this.#datasets = this.#datasets.filter((other) => other.name !== name);
    this.app.toasts.show(this.t.data.deleted(name));
    return true;
  }

  async #act(call: Promise<unknown>): Promise<boolean> {
    try {
      await call;
      return true;
    } catch (error) {
      this.report(error);
      return false;
    }
  }

  go(place: Place, options: { replace?: boolean } = {}) {
    this.app.router.go({ kind: 'training', place: placePath(place) }, options);
  }

  /** One sentence about an error; the page's own words for what only training knows come first. */
  errorText(error: unknown): string {
    const known: Record<string, string | undefined> = this.t.errors;
    // The trainer's own sentence says best what is wrong with data or settings.
    if (error instanceof ApiError && error.code === 'training_refused') return error.message;
    if (error instanceof ApiError && known[error.code] !== undefined)
      return known[error.code] ?? '';
    return errorText(error, this.app.t);
  }

  report = (error: unknown) => {
    if (error instanceof ApiError && error.status !== 401)
      this.app.toasts.show(this.errorText(error), { kind: 'error' });
    else this.app.report(error);
  };
}
