/** The sidebar: renaming, deleting with undo, search, export and import. */
import { readFileSync } from 'node:fs';
import { ask, composer, exported, expect, importConversations, open, test } from './daybreak';

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

test('a hit is opened where it stands, and marked', async ({ page, daybreak }) => {
  await open(page, daybreak);
  const turns = Array.from({ length: 80 }, (_, i) =>
    i === 21
      ? 'Deep in the wood lives a **wombat** of note.'
      : `Line ${i}. ${'Leaves fall. '.repeat(30)}`,
  );
  await importConversations(page, [exported('Forest', turns)]);
  const list = page.getByRole('navigation', { name: 'Conversations' });
  await page.keyboard.press('Control+k');
  await page.keyboard.type('wombat');
  await expect(list.getByText('a wombat of note')).toBeVisible();
  await list.getByRole('link', { name: /Forest/ }).click();
  const hit = page.locator('article', { hasText: 'wombat' });
  await expect(hit).toBeInViewport();
  const marked = () =>
    page.evaluate(() => [...(CSS.highlights.get('found') ?? [])].map((range) => String(range)));
  await expect.poll(marked).toEqual(['wombat']);
  // What is not looked for any more is not marked.
  await page.getByRole('button', { name: 'New chat' }).first().click();
  await expect.poll(marked).toEqual([]);
});

test('a hit in another version of an answer opens that version', async ({ page, daybreak }) => {
  await open(page, daybreak);
  const conversation = exported('Versions', ['Which animal?', 'An otter, I say.']);
  const [question] = conversation.messages;
  const other = {
    ...conversation.messages[1],
    id: crypto.randomUUID(),
    parent_id: question?.id,
    parts: [{ type: 'text', text: 'A pangolin, surely.' }],
  };
  await importConversations(page, [
    { ...conversation, messages: [...conversation.messages, other] },
  ]);
  await page.getByRole('searchbox', { name: 'Search conversations' }).fill('otter');
  const list = page.getByRole('navigation', { name: 'Conversations' });
  await list.getByRole('link', { name: /Versions/ }).click();
  const said = page.locator('article .prose');
  await expect(said).toHaveText('An otter, I say.');
  await page.getByRole('searchbox', { name: 'Search conversations' }).fill('pangolin');
  await expect(list.locator('mark', { hasText: 'pangolin' })).toBeVisible();
  await list.getByRole('link', { name: /Versions/ }).click();
  await expect(said).toHaveText('A pangolin, surely.');
  await expect(page.getByRole('img', { name: 'Version 2 of 2' })).toBeVisible();
});

test('a first message that is refused leaves no conversation behind', async ({
  page,
  daybreak,
}) => {
  await open(page, daybreak);
  const count = async () => {
    const answer = await page.request.get(`${daybreak.url}/api/conversations?limit=500`);
    return ((await answer.json()) as { items: unknown[] }).items.length;
  };
  const before = await count();
  const long = 'word '.repeat(3000);
  await composer(page).fill(long);
  await composer(page).press('Enter');
  const notice = page.getByRole('region', { name: 'This conversation is full' });
  await expect(notice).toBeVisible();
  await expect(page).toHaveURL(daybreak.url + '/');
  expect(await count()).toBe(before);
  await notice.getByRole('button', { name: 'Cancel' }).click();
  await expect(composer(page)).toHaveValue(long);
  await ask(page, 'Say hello.');
  expect(await count()).toBe(before + 1);
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
