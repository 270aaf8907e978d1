/** What this browser remembers about its person: theme, language, sidebar, last model. */
import { en, type Catalogue } from '../i18n/en';
import { zh } from '../i18n/zh';
import type { Locale } from '../format';
import type { Settings } from '../wire';

const KEY = 'daybreak.preferences';

export type Theme = 'auto' | 'light' | 'dark';

interface Saved {
  theme: Theme;
  /** Null follows the browser. */
  locale: Locale | null;
  sidebar: boolean;
  model: string | null;
  enterSends: boolean;
  userMarkdown: boolean;
  /** Whether the model may title new conversations. */
  modelTitles: boolean;
  settings: Settings;
  /** Languages for which the person said "not now" to another model. */
  declined: string[];
}

const DEFAULTS: Saved = {
  theme: 'auto',
  locale: null,
  sidebar: true,
  model: null,
  enterSends: true,
  userMarkdown: false,
  modelTitles: true,
  settings: {},
  declined: [],
};

export class Preferences {
  #saved = $state<Saved>(DEFAULTS);
  readonly locale: Locale = $derived(this.#saved.locale ?? browserLocale());
  /** The words of the current language. */
  readonly t: Catalogue = $derived(this.locale === 'zh-CN' ? zh : en);

  constructor() {
    this.#saved = { ...DEFAULTS, ...read() };
  }

  get theme() {
    return this.#saved.theme;
  }
  get sidebar() {
    return this.#saved.sidebar;
  }
  get model() {
    return this.#saved.model;
  }
  get enterSends() {
    return this.#saved.enterSends;
  }
  get userMarkdown() {
    return this.#saved.userMarkdown;
  }
  get modelTitles() {
    return this.#saved.modelTitles;
  }
  get settings(): Settings {
    return $state.snapshot(this.#saved.settings);
  }
  get declined(): readonly string[] {
    return this.#saved.declined;
  }

  change(values: Partial<Saved>) {
    Object.assign(this.#saved, values);
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#saved));
    } catch {
      // Storage is full or closed: the choice holds until the page is left.
    }
    this.apply();
  }

  /** Puts theme and language on the document. */
  apply() {
    const root = document.documentElement;
    root.lang = this.locale;
    if (this.theme === 'auto') delete root.dataset['theme'];
    else root.dataset['theme'] = this.theme;
  }
}

function browserLocale(): Locale {
  const first = navigator.languages.find((tag) => /^(zh|en)\b/i.test(tag)) ?? navigator.language;
  return /^zh\b/i.test(first) ? 'zh-CN' : 'en';
}

function read(): Partial<Saved> {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? '{}') as Partial<Saved>;
  } catch {
    return {};
  }
}
