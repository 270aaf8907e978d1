/** A run that is being put together. A reload of the page does not lose it. */
import type { Recipe, Run, SettingValues } from './wire';
import { runName, typedFrom, valuesOf } from './settings';

const KEY = 'daybreak.new-run';

interface Saved {
  recipe: string;
  dataset: string | null;
  base: string | null;
  typed: Record<string, string>;
  name: string | null;
}

export class Draft {
  readonly recipe: Recipe;
  #saved = $state<Saved>({ recipe: '', dataset: null, base: null, typed: {}, name: null });

  constructor(recipe: Recipe, from: Run | null, data: string | null) {
    this.recipe = recipe;
    const kept = from === null ? read(recipe.id) : null;
    this.#saved = {
      recipe: recipe.id,
      dataset: data ?? from?.dataset ?? kept?.dataset ?? null,
      base: from?.base ?? kept?.base ?? null,
      typed: from ? typedFrom(from.settings) : (kept?.typed ?? {}),
      name: kept?.name ?? null,
    };
  }

  get dataset() {
    return this.#saved.dataset;
  }
  get base() {
    return this.#saved.base;
  }
  get typed(): Readonly<Record<string, string>> {
    return this.#saved.typed;
  }
  get values(): SettingValues {
    return valuesOf(this.recipe, this.#saved.typed);
  }

  /** What was written, else a name after the data. */
  name(taken: readonly string[]): string {
    return this.#saved.name ?? runName(this.#saved.dataset ?? this.recipe.id, taken);
  }

  change(values: Partial<Omit<Saved, 'recipe'>>) {
    Object.assign(this.#saved, values);
    try {
      sessionStorage.setItem(KEY, JSON.stringify(this.#saved));
    } catch {
      // Storage is full or closed: the draft holds until the page is left.
    }
  }

  type(key: string, text: string) {
    this.change({ typed: { ...this.#saved.typed, [key]: text } });
  }

  reset() {
    this.change({ typed: {} });
  }

  /** It became a run. */
  forget() {
    sessionStorage.removeItem(KEY);
  }
}

function read(recipe: string): Partial<Saved> | null {
  try {
    const saved = JSON.parse(sessionStorage.getItem(KEY) ?? 'null') as Partial<Saved> | null;
    return saved?.recipe === recipe ? saved : null;
  } catch {
    return null;
  }
}
