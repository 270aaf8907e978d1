/**
 * The real server for the tests: `daybreak serve` on a free port, a data directory of its own, and
 * the models of the test cache. `test` gives every file one server with SmolLM2.
 */
import { test as base, expect, type Locator, type Page } from '@playwright/test';
import { spawn, type ChildProcess } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');
const binary = resolve(root, process.env['DAYBREAK_BIN'] ?? 'target/release/daybreak');
const cache =
  process.env['DAYBREAK_TEST_MODELS'] ??
  join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'daybreak/models');

export function modelFile(name: string): string {
  const path =
    name === 'smollm2-135m.gguf'
      ? (process.env['DAYBREAK_TEST_MODEL'] ?? join(cache, name))
      : join(cache, name);
  if (!existsSync(path)) throw new Error(`${path} is missing: run \`make test-setup\``);
  return path;
}

/** The entry of tests/catalog.toml, its file taken from the cache instead of from the network. */
function catalogWithLocalFile(dir: string): string {
  const text = readFileSync(join(root, 'tests/catalog.toml'), 'utf8');
  const local = text.replace(
    /^sources = \[[\s\S]*?^\]/m,
    `sources = [{ path = ${JSON.stringify(modelFile('qwen2.5-coder-0.5b.gguf'))} }]`,
  );
  const path = join(dir, 'catalog.toml');
  writeFileSync(path, local);
  return path;
}

export interface ServerOptions {
  args?: string[];
  /** How long a conversation may get, in tokens. */
  ctx?: number;
  /** Adds the Chinese model to the catalog, not yet downloaded. */
  withChinese?: boolean;
  /** Starts without any model on the disk. */
  empty?: boolean;
  /** A catalog of the test's own, besides the built-in one. */
  catalog?: string;
  /** A chat template in place of the model's own. */
  template?: string;
}

export class Daybreak {
  readonly dir = mkdtempSync(join(tmpdir(), 'daybreak-browser-'));
  readonly #options: ServerOptions;
  #process: ChildProcess | undefined;
  #port = 0;

  constructor(options: ServerOptions = {}) {
    this.#options = options;
    mkdirSync(join(this.dir, 'data/models'), { recursive: true });
    if (options.empty) return;
    symlinkSync(modelFile('smollm2-135m.gguf'), join(this.dir, 'data/models/smollm2-135m.gguf'));
  }

  get url() {
    return `http://localhost:${this.#port}`;
  }

  /** Starts, or starts again on the same port and data. */
  async start() {
    const { args = [], ctx = 2048, withChinese, catalog: text, template } = this.#options;
    const catalog = withChinese ? ['--catalog', catalogWithLocalFile(this.dir)] : [];
    if (text !== undefined) catalog.push('--catalog', this.#file('own.toml', text));
    if (template !== undefined) catalog.push('--chat-template', this.#file('own.jinja', template));
    const server = spawn(
      binary,
      [
        'serve',
        '--port',
        String(this.#port),
        '--data',
        join(this.dir, 'data'),
        '--ctx',
        String(ctx),
        ...catalog,
        ...args,
      ],
      // A home of its own: models that lie elsewhere on this machine are not part of the test.
      {
        env: { PATH: process.env['PATH'] ?? '', HOME: this.dir },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    this.#process = server;
    let log = '';
    server.stderr.on('data', (data: Buffer) => (log += data.toString()));
    this.#port = await new Promise<number>((found, fail) => {
      let out = '';
      server.stdout.on('data', (data: Buffer) => {
        out += data.toString();
        const port = /http:\/\/localhost:(\d+)/.exec(out)?.[1];
        if (port !== undefined) found(Number(port));
      });
      server.on('error', fail);
      server.on('exit', (code) => fail(new Error(`daybreak serve ended with ${code}:\n${log}`)));
      setTimeout(
        () => fail(new Error(`daybreak serve did not listen within 60 s:\n${log}`)),
        60_000,
      );
    });
  }

  #file(name: string, text: string): string {
    const path = join(this.dir, name);
    writeFileSync(path, text);
    return path;
  }

  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM') {
    const server = this.#process;
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const ended = new Promise((done) => server.once('exit', done));
    server.kill(signal);
    await ended;
  }

  async remove() {
    await this.end();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export const test = base.extend<{ page: Page }, { options: ServerOptions; daybreak: Daybreak }>({
  options: [{}, { option: true, scope: 'worker' }],
  daybreak: [
    async ({ options }, use) => {
      const daybreak = new Daybreak(options);
      await daybreak.start();
      await use(daybreak);
      await daybreak.remove();
    },
    { scope: 'worker' },
  ],
  page: async ({ page }, use) => {
    const problems: string[] = [];
    page.on('pageerror', (error) => problems.push(error.stack ?? error.message));
    page.on('console', (message) => {
      // A refused call is told by the page itself; what else ends up here is a mistake of ours.
      if (message.type() === 'error' && !/Failed to load resource|ERR_/.test(message.text()))
        problems.push(message.text());
    });
    await use(page);
    expect(problems).toEqual([]);
  },
});

export { expect };

export const composer = (page: Page): Locator => page.locator('#composer');
export const answers = (page: Page): Locator =>
  page.locator('article', {
    has: page.getByRole('heading', { name: /^(Answer|.*的回答|回答)/ }),
  });
export const stopButton = (page: Page): Locator =>
  page.getByRole('button', { name: /^(Stop the answer|停止回答)$/ });
export const receipt = (page: Page): Locator => page.locator('button.receipt');

/** Opens a new chat in which answers are short and the same each time. */
export async function open(
  page: Page,
  daybreak: Daybreak,
  settings: object = { temperature: 0, max_tokens: 24 },
) {
  await page.addInitScript((wanted) => {
    const key = 'daybreak.preferences';
    if (localStorage.getItem(key) === null)
      localStorage.setItem(key, JSON.stringify({ settings: wanted }));
  }, settings);
  await page.goto(daybreak.url);
  await expect(composer(page)).toBeVisible();
  await expect(page.locator('button.model')).toContainText('SmolLM2');
}

export async function send(page: Page, text: string) {
  await composer(page).fill(text);
  await composer(page).press('Enter');
}

/** Says something and waits for the whole answer. */
export async function ask(page: Page, text: string) {
  const before = await receipt(page).count();
  await send(page, text);
  await expect(receipt(page)).toHaveCount(before + 1, { timeout: 60_000 });
}

/** A conversation as the import takes it, a straight line of turns. */
export function exported(title: string, turns: string[]) {
  let parent: string | null = null;
  const id = crypto.randomUUID();
  const messages = turns.map((text, i) => {
    const message = {
      id: crypto.randomUUID(),
      conversation_id: id,
      parent_id: parent,
      role: i % 2 === 0 ? 'user' : 'assistant',
      status: 'complete',
      parts: [{ type: 'text', text }],
      created_at: Date.now() - (turns.length - i) * 1000,
      last_seq: 1,
    };
    parent = message.id;
    return message;
  });
  return {
    id,
    title,
    title_is_auto: false,
    model: 'smollm2:135m',
    settings: {},
    active_leaf_id: parent,
    created_at: Date.now(),
    updated_at: Date.now(),
    messages,
  };
}

/** Brings conversations in by the page's own menu. */
export async function importConversations(page: Page, conversations: object[]) {
  const file = JSON.stringify({
    format: 'daybreak-conversations',
    version: 1,
    conversations,
  });
  await page.locator('input[type=file][accept*=json]').setInputFiles({
    name: 'conversations.json',
    mimeType: 'application/json',
    buffer: Buffer.from(file),
  });
  await expect(page.getByRole('status').filter({ hasText: 'imported' })).toBeVisible();
}
