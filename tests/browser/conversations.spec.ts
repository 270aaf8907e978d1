/** The sidebar: renaming, deleting with undo, search, export and import. */
import { readFileSync } from 'node:fs';
import { exported, expect, importConversations, open, test } from './daybreak';

test('a conversation is renamed, deleted and brought back', async ({ page, daybreak }) => {
  await open(page, daybreak);
  await importConversations(page, [exported('Bread', ['How do I bake bread?', 'With patience.'])]);
  const list = page.getByRole('navigation', { name: 'Conversations' });
  await list.getByRole('link', { name: 'Bread' }).hover();
  await list.getByRole('button', { name: 'Options for “Bread”' }).click();
  await page.getByRole('menuitem', { name: 'Rename' }).click();
  await list.getByRole('textbox', { name: 'New title' }).fill('Sourdough');
  await page.keyboard.press('Enter');
  await expect(list.getByRole('link', { name: 'Sourdough', exact: true })).toBeVisible();
  await page.reload();
  await list.getByRole('link', { name: 'Sourdough', exact: true }).click();
  await expect(page.getByText('With patience.')).toBeVisible();
  await list.getByRole('button', { name: 'Options for “Sourdough”' }).click();
  await page.getByRole('menuitem', { name: 'Delete' }).click();
  await expect(list.getByRole('link', { name: 'Sourdough', exact: true })).toBeHidden();
  await expect(page).toHaveURL(daybreak.url + '/');
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect(list.getByRole('link', { name: 'Sourdough', exact: true })).toBeVisible();
  await expect(page.getByText('With patience.')).toBeVisible();
});

test('search finds titles and what was said, and shows where', async ({ page, daybreak }) => {
  await open(page, daybreak);
  await importConversations(page, [
    exported('Garden', ['When do I plant tulips?', 'In autumn, before the frost.']),
    exported('旅行', ['十一月去京都好吗？', '十一月的京都红叶正好。']),
  ]);
  await page.keyboard.press('Control+k');
  await page.keyboard.type('frost');
  const list = page.getByRole('navigation', { name: 'Conversations' });
  await expect(list.locator('mark', { hasText: 'frost' })).toBeVisible();
  await expect(list.getByRole('link', { name: /Garden/ })).toBeVisible();
  await page.getByRole('searchbox', { name: 'Search conversations' }).fill('红叶');
  await expect(list.getByRole('link', { name: /旅行/ })).toBeVisible();
  await expect(list.getByRole('link', { name: /Garden/ })).toBeHidden();
  await page.getByRole('searchbox', { name: 'Search conversations' }).fill('zzzz');
  await expect(list.getByText('Nothing found for “zzzz”.')).toBeVisible();
});

test('what is exported can be imported again', async ({ page, daybreak }) => {
  await open(page, daybreak);
  await importConversations(page, [exported('Chess', ['Who moves first?', 'White.'])]);
  await page.getByRole('button', { name: 'Settings and help' }).click();
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Export all conversations' }).click();
  const file = JSON.parse(readFileSync(await (await download).path(), 'utf8')) as {
    format: string;
    version: number;
    conversations: { title: string }[];
  };
  expect(file).toMatchObject({ format: 'daybreak-conversations', version: 1 });
  expect(file.conversations.map(({ title }) => title)).toContain('Chess');
});

test('a message deleted with what followed it can be brought back', async ({ page, daybreak }) => {
  await open(page, daybreak);
  await importConversations(page, [
    exported('Tea', ['Green or black?', 'Green.', 'Why?', 'It is lighter.']),
  ]);
  await page.getByRole('link', { name: 'Tea', exact: true }).click();
  await page.locator('article').nth(2).hover();
  await page.locator('article').nth(2).getByRole('button', { name: 'Delete from here on' }).click();
  await expect(page.locator('article')).toHaveCount(2);
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect(page.locator('article')).toHaveCount(4);
});

test('a conversation that does not exist says so', async ({ page, daybreak }) => {
  await page.goto(`${daybreak.url}/c/01900000-0000-7000-8000-00000000dead`);
  await expect(page.getByText('This conversation does not exist any more.')).toBeVisible();
});
