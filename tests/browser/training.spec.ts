/** From files to a model to chat with, on the page alone; runs that outlive pages and servers. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from '@playwright/test';
import { composer, Daybreak, expect, receipt, send, test } from './daybreak';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Words in an order that a small model can learn something of. */
const text = Array.from({ length: 6000 }, (_, i) => {
  const animal = ['cat', 'dog', 'owl', 'fox'][(i * 7) % 4];
  const verb = ['sees', 'hears', 'likes'][(i * 5) % 3];
  return `The ${animal} ${verb} the ${i % 97} birds. ${i % 9 === 0 ? '今天天气很好。\n\n' : ''}`;
}).join('');

const chats = Array.from({ length: 24 }, (_, i) =>
  JSON.stringify({
    messages: [
      { role: 'user', content: `Question ${i}?` },
      { role: 'assistant', content: `answer ${i} <b>bold</b>.` },
    ],
  }),
).join('\n');

const badge = (page: Page, name: string) => page.locator('#training .status', { hasText: name });
const start = (page: Page) => page.getByRole('button', { name: 'Start', exact: true });

async function upload(page: Page, name: string, content: string) {
  await page
    .locator('input[type=file][multiple]')
    .last()
    .setInputFiles({
      name,
      mimeType: 'text/plain',
      buffer: Buffer.from(content),
    });
  await page.getByRole('button', { name: 'Upload data' }).click();
}

/** A run from nothing, as small as they come. */
async function fillIn(page: Page, values: Record<string, string>) {
  await page.getByText('More settings').click();
  const smallest = {
    Depth: '1',
    'Vocabulary size': '400',
    'Longest sequence': '64',
    'Tokens of a step': '512',
    'Tokens at once': '512',
    'Steps between evaluations': '20',
  };
  for (const [label, value] of Object.entries({ ...smallest, ...values }))
    await page.getByLabel(label, { exact: true }).fill(value);
}

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  return page.evaluate(async () => {
    interface Found {
      violations: { id: string; nodes: { html: string; failureSummary: string }[] }[];
    }
    const { axe } = window as unknown as { axe: { run(options: object): Promise<Found> } };
    const { violations } = await axe.run({
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
      rules: { 'heading-order': { enabled: false } },
    });
    return violations.flatMap(({ id, nodes }) =>
      nodes.map((node) => `${id}: ${node.html.slice(0, 200)} — ${node.failureSummary}`),
    );
  });
}

test.describe.configure({ mode: 'serial' });

test('a newcomer makes a model from texts and chats with it', async ({ page, daybreak }) => {
  await page.goto(daybreak.url);
  await expect(composer(page)).toBeVisible();
  await page.keyboard.press('Control+Shift+L');
  await expect(page).toHaveURL(`${daybreak.url}/training`);
  await expect(page.getByRole('heading', { name: 'Make a model of your own' })).toBeVisible();
  await page.getByRole('link', { name: /A model from your texts/ }).click();
  await expect(start(page), 'nothing to learn from yet').toBeDisabled();
  await upload(page, 'animals.txt', text);
  await expect(page.getByRole('radio', { name: /animals/ })).toBeChecked();
  await page.getByRole('button', { name: 'Look at the data' }).click();
  await expect(page.getByRole('region', { name: 'Record 1' })).toContainText('The cat sees');
  await page.getByRole('button', { name: 'Hide the data' }).click();

  await fillIn(page, { 'Tokens to train on': '30k' });
  await page.getByLabel('Time to train for').fill('soon');
  await expect(page.getByText('A time is expected')).toBeVisible();
  await expect(start(page)).toBeDisabled();
  await page.getByLabel('Time to train for').fill('');
  await page.reload();
  await expect(page.getByLabel('Depth', { exact: true }), 'a reload loses nothing').toHaveValue(
    '1',
  );

  await page.getByRole('button', { name: 'Work out the plan' }).click();
  await expect(page.locator('dl.lines')).toContainText('Parameters', { timeout: 60_000 });
  await page.getByLabel('Name of the run').fill('animals <i>one</i>');
  await start(page).click();
  await expect(page).toHaveURL(/\/training\/runs\/[0-9a-f-]+$/);
  await expect(page.getByRole('heading', { name: 'animals <i>one</i>' })).toBeVisible();
  await expect(badge(page, 'Done')).toBeVisible({ timeout: 60_000 });

  await expect(page.locator('.canvas canvas')).toHaveCount(4);
  await expect(page.locator('dl', { hasText: 'Held-out bits per byte' }).first()).toBeVisible();
  const cursor = page.getByRole('slider', { name: 'Cursor of the plot Loss' });
  await cursor.press('ArrowLeft');
  await expect(cursor).toHaveAttribute('aria-valuetext', /^Step \d+: Loss \d/);
  await page.getByText('The figures as a table').click();
  await expect(page.getByRole('table').first()).toContainText('Gradient norm');
  await page.getByRole('tab', { name: 'Samples' }).click();
  await expect(page.locator('#section li').first()).toContainText('The');
  await page.getByRole('tab', { name: 'Samples' }).press('ArrowRight');
  await expect(page.getByRole('region', { name: 'Log of the run' })).toContainText('model');
  await page.getByRole('tab', { name: 'Configuration' }).click();
  await expect(page.locator('#section')).toContainText('Where this model comes from');
  await expect(page.locator('#section pre')).toContainText('daybreak train pretrain');

  await page.getByRole('button', { name: 'Chat with it' }).click();
  await expect(page.locator('button.model')).toContainText('animals');
  await send(page, 'The cat');
  await expect(receipt(page)).toBeVisible({ timeout: 60_000 });
});

test('of conversations only the answers are learnt, and the page shows which tokens', async ({
  page,
  daybreak,
}) => {
  await page.goto(`${daybreak.url}/training/data`);
  await upload(page, 'chats.jsonl', chats);
  await expect(page).toHaveURL(`${daybreak.url}/training/data/chats`);
  await expect(page.locator('mark.learnt').nth(1)).toContainText('answer 0 <b>bold</b>.');
  await expect(page.locator('.text .read').first()).toContainText('Question 0?');
  await page.getByRole('radio', { name: 'Pairs of answers' }).check({ force: true });
  await expect(page.getByText('could not be read in this way')).toBeVisible();
  await page.getByRole('link', { name: 'Train with it' }).click();
  await expect(page.getByRole('radio', { name: /chats/ })).toBeChecked();
});

test('a run is paused, outlives a server that is killed, goes on, and is stopped', async ({
  page,
  daybreak,
}) => {
  await page.goto(`${daybreak.url}/training/new/pretrain/animals`);
  await fillIn(page, { 'Tokens to train on': '20M', 'Time between checkpoints': '1s' });
  await page.getByLabel('Name of the run').fill('long');
  await start(page).click();
  await expect(badge(page, 'Running')).toBeVisible({ timeout: 60_000 });
  await expect(page.locator('.canvas canvas').first()).toBeVisible();
  await page.getByRole('button', { name: 'Pause' }).click();
  await expect(badge(page, 'Paused')).toBeVisible({ timeout: 30_000 });
  await page.getByRole('button', { name: 'Resume' }).click();
  await expect(badge(page, 'Running')).toBeVisible({ timeout: 30_000 });
  await expect(page.getByText('Went on after a pause')).toBeVisible();

  await daybreak.end('SIGKILL');
  await expect(page.getByText('The line is gone')).toBeVisible();
  await daybreak.start();
  await expect(page.getByText('The line is gone')).toBeHidden({ timeout: 30_000 });
  await expect(badge(page, 'Running')).toBeVisible();
  const tokens = page.locator('dl div', { hasText: 'Tokens so far' }).locator('dd');
  const before = await tokens.textContent();
  await expect(tokens).not.toHaveText(before ?? '');

  await page.getByRole('button', { name: 'Stop', exact: true }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Stop' }).click();
  await expect(badge(page, 'Stopped')).toBeVisible({ timeout: 30_000 });
});

test('runs are compared on one plot, and deleted when they are not needed', async ({
  page,
  daybreak,
}) => {
  await page.goto(`${daybreak.url}/training`);
  await page.getByRole('checkbox', { name: 'Compare long' }).check();
  await page.getByRole('checkbox', { name: /Compare animals/ }).check();
  await page.getByRole('link', { name: 'Compare 2 runs' }).click();
  await expect(page.locator('ul.legend').first()).toContainText('long, held out');
  await page.reload();
  await expect(page.locator('ul.legend').first()).toContainText('animals <i>one</i>');
  await expect(page.getByRole('row', { name: /Tokens to train on/ })).toContainText('20,000,000');
  await page.getByRole('link', { name: 'long', exact: true }).click();
  await page.getByRole('button', { name: 'More about this run' }).click();
  await page.getByRole('menuitem', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page).toHaveURL(`${daybreak.url}/training`);
  await expect(page.getByRole('link', { name: /^long/ })).toBeHidden();
});

for (const [scheme, locale, width] of [
  ['light', 'en-US', 1280],
  ['dark', 'zh-CN', 390],
] as const) {
  test(`axe finds nothing wrong and nothing is too wide: ${scheme}, ${locale}`, async ({
    browser,
    daybreak,
  }) => {
    const context = await browser.newContext({
      colorScheme: scheme,
      locale,
      reducedMotion: 'reduce',
      viewport: { width, height: 844 },
    });
    const page = await context.newPage();
    const look = async (what: string) => {
      expect(await violations(page), what).toEqual([]);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      expect(overflow, what).toBeLessThanOrEqual(0);
    };
    await page.goto(`${daybreak.url}/training`);
    await page.locator('#training a', { hasText: 'animals' }).first().waitFor();
    await look('runs');
    await page.locator('#training a', { hasText: 'animals' }).first().click();
    await page.locator('.canvas canvas').first().waitFor();
    await look('run');
    await page.goto(`${daybreak.url}/training/new/pretrain/animals`);
    await page.locator('details summary').first().click();
    await look('new run');
    await page.goto(`${daybreak.url}/training/data/chats`);
    await page.locator('mark.learnt').nth(1).waitFor();
    await look('data');
    await context.close();
  });
}

test('without any data or runs the page says what to do first', async ({ page }) => {
  const fresh = new Daybreak();
  await fresh.start();
  try {
    await page.goto(`${fresh.url}/training/data`);
    await expect(page.getByRole('heading', { name: 'No data yet' })).toBeVisible();
    await page.goto(`${fresh.url}/training/runs/00000000-0000-7000-8000-000000000000`);
    await expect(page.getByText('This run does not exist any more.')).toBeVisible();
  } finally {
    await fresh.remove();
  }
});

test('the first model: all stages from one click, to its tests and the chat', async ({
  page,
  daybreak,
}) => {
  await page.goto(`${daybreak.url}/training/new`);
  await page.getByRole('link', { name: /Your first model/ }).click();
  await page.getByLabel('Quick look').check();
  await page.getByRole('button', { name: 'Work out the plan' }).click();
  await expect(page.locator('dl.lines')).toContainText('Then, tokens of conversations', {
    timeout: 60_000,
  });
  await page.getByLabel('Name of the run').fill('first');
  await start(page).click();
  const stage = (name: string) => page.getByRole('radio', { name });
  await expect(stage('Learning to answer')).toBeDisabled({ timeout: 60_000 });
  await expect(page.locator('.canvas canvas')).toHaveCount(4, { timeout: 60_000 });
  await expect(page.getByText(/of this stage/)).toBeVisible();
  await page.getByRole('button', { name: 'Pause' }).click();
  await expect(badge(page, 'Paused')).toBeVisible({ timeout: 60_000 });
  await page.getByRole('button', { name: 'Resume' }).click();
  await expect(stage('Learning to answer'), 'the next stage is shown').toBeChecked({
    timeout: 120_000,
  });
  await page.getByRole('tab', { name: 'Samples' }).click();
  let fetched = 0;
  page.on('request', (request) => (fetched += Number(/\/(series|events)\b/.test(request.url()))));
  await stage('Learning to write').check({ force: true });
  await expect(page.locator('#section')).toContainText('The symbol Fe stands for');
  await page.waitForTimeout(1500);
  expect(fetched, 'an earlier stage is fetched once').toBeLessThan(4);
  await stage('Learning to answer').check({ force: true });
  await expect(page.locator('#section')).toContainText('What is 47 + 38?', { timeout: 60_000 });
  await expect(badge(page, 'Done')).toBeVisible({ timeout: 120_000 });
  await stage('Learning to write').check({ force: true });
  await expect(page.locator('#section')).toContainText('The symbol Fe stands for');
  await page.getByRole('tab', { name: 'Tests' }).click();
  await expect(page.locator('#section tbody tr')).toHaveCount(6);
  await expect(page.locator('#section')).toContainText('Elements, Chinese');
  await page.getByRole('tab', { name: 'Configuration' }).click();
  await expect(page.locator('#section')).toContainText('Made by the recipe');
  await expect(page.locator('#section pre')).toContainText('train recipe first-light');
  expect(await violations(page)).toEqual([]);

  await page.getByRole('button', { name: 'Chat with it' }).click();
  await send(page, 'Hello!');
  await expect(receipt(page)).toBeVisible({ timeout: 60_000 });
});
