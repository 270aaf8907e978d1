/** The server as a whole: is it there, who are we to it, what machine does it run on? */
import { ApiError, Unreachable, type Api } from '../api';
import type { ServerState } from '../wire';

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15_000;

export class Server {
  readonly #api: Api;
  #state = $state.raw<ServerState | null>(null);
  #reachable = $state(true);
  #signedOut = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wait = FIRST_WAIT_MS;
  #onBack: (() => void)[] = [];

  constructor(api: Api) {
    this.#api = api;
    addEventListener('online', () => {
      if (!this.#reachable) void this.refresh();
    });
  }

  get state() {
    return this.#state;
  }
  get reachable() {
    return this.#reachable;
  }
  get needsKey() {
    if (this.#signedOut) return true;
    return this.#state !== null && this.#state.auth.required && !this.#state.auth.signed_in;
  }

  /** Called when the server answers again after a silence. */
  onBack(run: () => void) {
    this.#onBack.push(run);
  }

  async refresh(): Promise<boolean> {
    clearTimeout(this.#timer);
    try {
      this.#state = await this.#api.state();
      this.#signedOut = false;
      this.#answered();
      return true;
    } catch (error) {
      this.notice(error);
      return false;
    }
  }

  /** Every store hands its errors here first: a lost line or session concerns the whole page. */
  notice(error: unknown) {
    const gone =
      error instanceof Unreachable || (error instanceof ApiError && error.status === 502);
    if (gone) this.#lost();
    else if (error instanceof ApiError && error.status === 401) this.#signedOut = true;
  }

  async signIn(key: string) {
    await this.#api.signIn(key);
    this.#signedOut = false;
    await this.refresh();
    for (const run of this.#onBack) run();
  }

  async signOut() {
    await this.#api.signOut();
    this.#signedOut = true;
  }

  #lost() {
    this.#reachable = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.refresh(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
  }

  #answered() {
    this.#wait = FIRST_WAIT_MS;
    if (this.#reachable) return;
    this.#reachable = true;
    for (const run of this.#onBack) run();
  }
}
