/** For keyboards, screen readers and small screens. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from '@playwright/test';
import {
  answers,
  ask,
  composer,
  expect,
  exported,
  importConversations,
  open,
  receipt,
  test,
} from './daybreak';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const { axe } = window as unknown as {
      axe: {
        run(options: object): Promise<{
          violations: {
            id: string;
            nodes: { html: string; failureSummary: string }[];
          }[];
        }>;
      };
    };
    const result = await axe.run({
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
      rules: { 'heading-order': { enabled: false } },
    });
    return result.violations.flatMap(({ id, nodes }) =>
      nodes.map((node) => `${id}: ${node.html.slice(0, 200)} — ${node.failureSummary}`),
    );
  });
}

const rich =
  '## Title\n\nSome *text* with `code` and a [link](https://example.com).\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\ndef f(x: int) -> str:\n    """doc"""\n    return f"{x + 1}"  # note\n```\n\n$$x^2$$\n\n> quote';

for (const scheme of ['light', 'dark'] as const) {
  for (const locale of ['en-US', 'zh-CN']) {
    test(`axe finds nothing wrong: ${scheme}, ${locale}`, async ({ browser, daybreak }) => {
      const context = await browser.newContext({
        colorScheme: scheme,
        locale,
        reducedMotion: 'reduce',
      });
      const page = await context.newPage();
      await page.goto(daybreak.url);
      await expect(page.locator('button.model')).toContainText('SmolLM2');
      expect(await violations(page), 'welcome').toEqual([]);
      const file = JSON.stringify({
        format: 'daybreak-conversations',
        version: 1,
        conversations: [exported(`Rich ${scheme} ${locale}`, ['Show me', rich])],
      });
      await page.locator('input[type=file][accept*=json]').setInputFiles({
        name: 'c.json',
        mimeType: 'application/json',
        buffer: Buffer.from(file),
      });
      await page.getByRole('link', { name: `Rich ${scheme} ${locale}` }).click();
      await expect(page.locator('.katex')).toBeVisible();
      await expect(page.locator('.hljs-keyword').first()).toBeVisible();
      expect(await violations(page), 'conversation').toEqual([]);
      await page.locator('button.model').click();
      await expect(page.getByRole('dialog')).toBeVisible();
      expect(await violations(page), 'models').toEqual([]);
      await page.keyboard.press('Escape');
      await page.keyboard.press('Control+,');
      await expect(page.getByRole('dialog')).toBeVisible();
      expect(await violations(page), 'settings').toEqual([]);
      await page.keyboard.press('Escape');
      await page.locator('#messages').focus();
      await page.keyboard.press('?');
      await expect(page.getByRole('dialog')).toBeVisible();
      expect(await violations(page), 'shortcuts').toEqual([]);
      await context.close();
    });
  }
}

test('everything can be done with the keyboard alone', async ({ page, daybreak }) => {
  await open(page, daybreak);
  await expect(composer(page)).toBeFocused();
  await page.keyboard.type('Name a fruit.');
  await page.keyboard.press('Enter');
  await expect(receipt(page)).toBeVisible();
  await expect(composer(page)).toBeFocused();
  await page.keyboard.press('Control+Shift+O');
  await expect(page).toHaveURL(daybreak.url + '/');
  await expect(composer(page)).toBeFocused();
  await page.keyboard.press('Control+k');
  await expect(page.getByRole('searchbox')).toBeFocused();
  await page.keyboard.type('fruit');
  await expect(page.getByText(/conversations? found/)).toBeVisible();
  await expect(page.getByRole('link', { name: /fruit/ })).toBeVisible();
  while (
    !(await page
      .getByRole('link', { name: /fruit/ })
      .first()
      .evaluate((link) => link === document.activeElement))
  ) {
    await page.keyboard.press('Tab');
  }
  await page.keyboard.press('Enter');
  await expect(answers(page)).toHaveText(/\w+/);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('menuitem', { name: 'Rename' })).toBeFocused();
  await page.keyboard.press('ArrowDown');
  await expect(page.getByRole('menuitem', { name: 'Export as JSON' })).toBeFocused();
  await page.keyboard.press('Escape');
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Keyboard shortcuts' })).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.getByRole('dialog')).toBeHidden();
  await page.keyboard.press('/');
  await expect(composer(page)).toBeFocused();
});

test('every key of the list does what the list says', async ({ page, daybreak }) => {
  await open(page, daybreak, { temperature: 0, max_tokens: 600 });
  const dialog = page.getByRole('dialog');
  await composer(page).fill('What is the capital of France?');
  await page.keyboard.press('Control+/');
  await expect(page.getByRole('dialog', { name: 'Keyboard shortcuts' })).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(dialog).toBeHidden();
  await expect(composer(page), 'focus goes back').toBeFocused();
  for (const [keys, name] of [
    ['Control+,', 'Chat settings'],
    ['Control+Shift+M', 'Models'],
  ] as const) {
    await page.keyboard.press(keys);
    await expect(page.getByRole('dialog', { name })).toBeVisible();
    await page.keyboard.press('Escape');
    await expect(dialog).toBeHidden();
    await expect(composer(page), `focus goes back after ${keys}`).toBeFocused();
  }
  const sidebar = page.getByRole('navigation', { name: 'Conversations' });
  await page.keyboard.press('Control+b');
  await expect(sidebar).toBeHidden();
  await page.keyboard.press('Control+b');
  await expect(sidebar).toBeVisible();
  await page.keyboard.press('Shift+Enter');
  await expect(composer(page)).toHaveValue('What is the capital of France?\n');
  await page.keyboard.press('Enter');
  await expect(answers(page)).toHaveText(/\w+ \w+/);
  await page.keyboard.press('Escape');
  await expect(page.getByText('Stopped.')).toBeVisible();
  await expect(composer(page)).toBeFocused();
  await page.keyboard.press('ArrowUp');
  const box = page.getByRole('textbox', { name: 'Edit your message' });
  await expect(box).toBeFocused();
  await page.keyboard.press('Escape');
  await expect(box).toBeHidden();
  await expect(composer(page), 'focus goes back').toBeFocused();
  await page.locator('#messages').focus();
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Keyboard shortcuts' })).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.locator('#messages'), 'focus goes back').toBeFocused();
  await page.keyboard.press('/');
  await expect(composer(page)).toBeFocused();
  await page.keyboard.press('Control+k');
  await expect(page.getByRole('searchbox')).toBeFocused();
  await page.keyboard.press('Control+Shift+O');
  await expect(page).toHaveURL(daybreak.url + '/');
  await expect(composer(page)).toBeFocused();
});

test('a screen reader is told of an answer once, not word by word', async ({ page, daybreak }) => {
  await open(page, daybreak);
  await page.evaluate(() => {
    const log = document.querySelector('[role=log]');
    const told: string[] = ((window as unknown as { told: string[] }).told = []);
    if (log)
      new MutationObserver(() => told.push(log.textContent?.trim() ?? '')).observe(log, {
        childList: true,
        characterData: true,
        subtree: true,
      });
  });
  await ask(page, 'Say hello.');
  const told = await page.evaluate(() => (window as unknown as { told: string[] }).told);
  expect(told.length).toBeLessThanOrEqual(3);
  expect(told.at(-1)).toMatch(/^The answer is complete\. \w+/);
});

test('on a phone the sidebar is a drawer and everything fits', async ({ browser, daybreak }) => {
  const context = await browser.newContext({
    viewport: { width: 390, height: 844 },
    isMobile: true,
    hasTouch: true,
  });
  const page = await context.newPage();
  await open(page, daybreak);
  const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  expect(await overflow()).toBeLessThanOrEqual(0);
  await expect(page.getByRole('navigation', { name: 'Conversations' })).toBeHidden();
  await ask(page, 'Say hello.');
  await page.getByRole('button', { name: 'Open the sidebar' }).tap();
  await expect(page.getByRole('navigation', { name: 'Conversations' })).toBeVisible();
  await importConversations(page, [exported('Wide', ['Show', rich])]);
  await page.getByRole('link', { name: 'Wide', exact: true }).tap();
  await expect(page.getByRole('navigation', { name: 'Conversations' })).toBeHidden();
  await expect(page.getByRole('table')).toBeVisible();
  expect(await overflow()).toBeLessThanOrEqual(0);
  expect(await violations(page)).toEqual([]);
  const send = await page.getByRole('button', { name: 'Send message' }).boundingBox();
  expect(send?.height).toBeGreaterThanOrEqual(40);
  await context.close();
});
