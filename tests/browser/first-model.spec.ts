/** A machine without any model: what is offered, how far it is, what went wrong, and how it is tried again. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Page } from '@playwright/test';
import { answers, composer, Daybreak, expect, modelFile, receipt, send, test } from './daybreak';

const sha256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53';

/** Serves the default model's file as slowly as the test wants, and not at all until it is open. */
class Source {
  readonly #server: Server;
  readonly #file = openSync(modelFile('smollm2-135m.gguf'), 'r');
  readonly #size = statSync(modelFile('smollm2-135m.gguf')).size;
  bytesPerSecond = 2_000_000;
  isOpen = true;

  constructor() {
    this.#server = createServer((request, response) => {
      if (!this.isOpen) {
        request.socket.destroy();
        return;
      }
      const range = /^bytes=(\d+)-/.exec(request.headers.range ?? '');
      let at = Number(range?.[1] ?? 0);
      response.writeHead(range ? 206 : 200, {
        'content-length': this.#size - at,
        'accept-ranges': 'bytes',
        ...(range ? { 'content-range': `bytes ${at}-${this.#size - 1}/${this.#size}` } : {}),
      });
      const timer = setInterval(() => {
        const bytes = Buffer.alloc(Math.min(this.bytesPerSecond / 20, this.#size - at));
        at += readSync(this.#file, bytes, 0, bytes.length, at);
        response.write(bytes);
        if (at < this.#size) return;
        clearInterval(timer);
        response.end();
      }, 50);
      response.on('close', () => clearInterval(timer));
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/model.gguf`;
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
    closeSync(this.#file);
  }
}

/** The default model and no other one that could be offered first, from this address alone. */
const catalog = (url: string) => `[[model]]
name = "smollm2:135m"
title = "SmolLM2 135M Instruct"
architecture = "llama"
parameters = 134_515_008
quant = "Q4_1"
file_size = 98_362_432
license = "Apache-2.0"
languages = ["en", "zh"]
context_length = 8192
sha256 = "${sha256}"
default = true
preferred = true
sources = [{ url = "${url}" }]
`;

const row = (page: Page) => page.locator('main li', { hasText: 'SmolLM2 135M Instruct' });

const words = {
  'en-US': {
    choose: 'Choose a model to begin',
    download: 'Download SmolLM2 135M Instruct',
    cancel: 'Cancel the download of SmolLM2 135M Instruct',
    retry: 'Try again to download SmolLM2 135M Instruct',
    unreachable: 'None of the places that hold this model could be reached.',
    progress: /\d+ MB of 98 MB · [\d.]+ (kB|MB)\/s/,
  },
  'zh-CN': {
    choose: '先选一个模型',
    download: '下载 SmolLM2 135M Instruct',
    cancel: '取消下载 SmolLM2 135M Instruct',
    retry: '重试下载 SmolLM2 135M Instruct',
    unreachable: '存有这个模型的地方都连不上。',
    progress: /\d+ MB \/ 98 MB · [\d.]+ (kB|MB)\/秒/,
  },
};

/** What the server says of each of its models. */
async function states(daybreak: Daybreak): Promise<string[]> {
  const answer = await fetch(`${daybreak.url}/api/models`);
  const list = (await answer.json()) as { items: { state: string }[] };
  return list.items.map((model) => model.state);
}

for (const locale of ['en-US', 'zh-CN'] as const) {
  test(`a download fails, is tried again, cancelled, and ends in an answer: ${locale}`, async ({
    browser,
  }) => {
    test.setTimeout(240_000);
    const source = new Source();
    const daybreak = new Daybreak({ empty: true, catalog: catalog(await source.listen()) });
    const context = await browser.newContext({ locale });
    const said = words[locale];
    try {
      source.isOpen = false;
      await daybreak.start();
      const page = await context.newPage();
      await page.goto(daybreak.url);
      await expect(page.getByRole('heading', { name: said.choose })).toBeVisible();
      await expect(composer(page)).toHaveCount(0);

      // The server itself has tried to fetch its default model already.
      const first = page.getByRole('button', { name: said.retry, exact: true });
      await expect(
        first.or(page.getByRole('button', { name: said.download, exact: true })),
      ).toBeVisible();
      // That attempt's failure may still stand on the page: only this one's end counts.
      const begun = page.waitForResponse(
        (response) => response.request().method() === 'POST' && response.url().endsWith('/pull'),
      );
      await first.or(page.getByRole('button', { name: said.download, exact: true })).click();
      await begun;
      await expect.poll(() => states(daybreak)).toContain('failed');
      await expect(row(page).getByRole('alert')).toHaveText(said.unreachable);

      source.isOpen = true;
      await page.getByRole('button', { name: said.retry, exact: true }).click();
      await expect(row(page)).toHaveText(said.progress);
      await expect(row(page).getByRole('alert')).toHaveCount(0);
      await page.getByRole('button', { name: said.cancel, exact: true }).click();
      await expect(page.getByRole('button', { name: said.download, exact: true })).toBeVisible();
      await expect(row(page).getByRole('progressbar')).toHaveCount(0);

      source.bytesPerSecond = 200_000_000;
      await page.getByRole('button', { name: said.download, exact: true }).click();
      await expect(composer(page)).toBeVisible({ timeout: 120_000 });
      await send(page, 'Say hello.');
      await expect(receipt(page)).toBeVisible({ timeout: 120_000 });
      await expect(answers(page)).toHaveText(/\w+/);
    } finally {
      await context.close();
      await daybreak.remove();
      source.close();
    }
  });
}
