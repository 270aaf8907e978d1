/** The models the server knows: on disk, in the catalog, on their way here. */
import type { Api } from '../api';
import type { Model } from '../wire';
import { pause } from './pause';

/** Asked this often, and only while a download or a load is under way. */
const POLL_MS = 500;

export class Models {
  readonly #api: Api;
  readonly #language: () => string;
  readonly #onError: (error: unknown) => void;
  #items = $state.raw<Model[]>([]);
  #known = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #byName = $derived(new Map(this.#items.map((model) => [model.name, model])));
  readonly here = $derived(this.#items.filter(isHere));
  readonly elsewhere = $derived(this.#items.filter((model) => !isHere(model)));

  constructor(api: Api, language: () => string, onError: (error: unknown) => void) {
    this.#api = api;
    this.#language = language;
    this.#onError = onError;
  }

  get items(): readonly Model[] {
    return this.#items;
  }
  /** Whether the list has been fetched at all. */
  get known() {
    return this.#known;
  }

  get(name: string | null | undefined): Model | null {
    return name == null ? null : (this.#byName.get(name) ?? null);
  }

  async refresh() {
    clearTimeout(this.#timer);
    try {
      this.#items = await this.#api.models(this.#language());
      this.#known = true;
    } catch (error) {
      this.#onError(error);
    }
    if (this.#items.some(isBusy)) this.#timer = setTimeout(() => void this.refresh(), POLL_MS);
  }

  pull = (name: string) => this.#act(this.#api.pull(name));
  cancelPull = (name: string) => this.#act(this.#api.cancelPull(name));
  load = (name: string) => this.#act(this.#api.load(name));
  remove = (name: string) => this.#act(this.#api.removeModel(name));

  /** Fetches and loads a model, however far it is from that; ends when it can answer, or cannot. */
  async prepare(name: string): Promise<boolean> {
    let asked = false;
    for (;;) {
      const model = this.get(name);
      if (!model) return false;
      if (model.state === 'loaded') return true;
      if (!isBusy(model)) {
        // Each step is asked for once: a model that fell back from it has failed or was cancelled.
        const here = isHere(model);
        if (asked && (!here || model.state === 'failed')) return false;
        if (!(await (here ? this.load(name) : this.pull(name)))) return false;
        asked = true;
      }
      await pause(POLL_MS);
    }
  }

  async #act(call: Promise<unknown>): Promise<boolean> {
    let done = true;
    try {
      await call;
    } catch (error) {
      this.#onError(error);
      done = false;
    }
    await this.refresh();
    return done;
  }
}

export function isHere(model: Model): boolean {
  return (
    model.state === 'downloaded' ||
    model.state === 'loading' ||
    model.state === 'loaded' ||
    (model.state === 'failed' && model.origin != null)
  );
}

export function isBusy(model: Model): boolean {
  return model.state === 'downloading' || model.state === 'loading';
}
