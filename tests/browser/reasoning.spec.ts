/** Thinking aloud, streamed by the real model: a template shows it how and opens the tag. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { answers, ask, expect, open, receipt, send, stopButton, test } from './daybreak';

const template = readFileSync(join(import.meta.dirname, 'thinking.jinja'), 'utf8');
test.use({ options: { template } });

test('reasoning is folded away, timed, and not copied', async ({ page, daybreak }) => {
  await open(page, daybreak, { temperature: 0, max_tokens: 120 });
  await ask(page, 'What do cows eat?');
  const answer = answers(page);
  const summary = answer.locator('summary');
  await expect(summary).toHaveText(/^\s*Thought for [\d.]+ s\s*$/);
  const thoughts = answer.locator('.thoughts');
  await expect(thoughts).toBeHidden();
  const said = (await answer.locator('.prose').innerText()).trim();
  expect(said).toMatch(/\w+/);
  expect(said).not.toContain('think>');
  await summary.click();
  await expect(thoughts).toBeVisible();
  await expect(thoughts).toHaveText(/\w+ \w+/);
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await answer.getByRole('button', { name: 'Copy answer' }).click();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  // The answer and nothing else; what the thought says may be said in it, too.
  const words = (text: string) => text.match(/[\p{L}\d]+/gu);
  expect(words(copied)).toEqual(words(said));
  // The same after a reload: it came from the server's disk.
  await page.reload();
  await expect(answers(page).locator('summary')).toHaveText(/Thought for [\d.]+ s/);
  await expect(answers(page).locator('.prose')).toHaveText(/\w+/);
});

test('while the model thinks, that is what the page shows', async ({ page, daybreak }) => {
  // At this temperature the thoughts of so small a model seldom find their end; where they do, it thinks again.
  await open(page, daybreak, { temperature: 2, top_k: 0, top_p: 1, min_p: 0, max_tokens: 900 });
  const summary = answers(page).locator('summary').last();
  await expect(async () => {
    if (await stopButton(page).isVisible()) await stopButton(page).click();
    await expect(stopButton(page)).toBeHidden();
    await send(page, 'Think about the sea.');
    await expect(summary).toHaveText(/Thinking… \d+ s/, { timeout: 5000 });
  }).toPass({ timeout: 60_000 });
  await summary.click();
  await expect(answers(page).locator('.thoughts').last()).toHaveText(/\w+/);
  await stopButton(page).click();
  await expect(summary).toHaveText(/Thought for [\d.]+ s/);
});

test('it can be switched off, and then there is none', async ({ page, daybreak }) => {
  await open(page, daybreak, { temperature: 0, max_tokens: 24 });
  await page.getByRole('button', { name: /^Reasoning/ }).click();
  await ask(page, 'What do cows eat?');
  await expect(answers(page).locator('.prose')).toHaveText(/\w+/);
  await expect(answers(page).locator('summary')).toHaveCount(0);
  await receipt(page).click();
  await expect(page.getByRole('dialog')).toContainText('Off');
});
