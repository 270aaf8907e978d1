/** Answers belong to the server: pages, lines and even the server itself may go away meanwhile. */
import {
  answers,
  ask,
  composer,
  Daybreak,
  expect,
  open,
  receipt,
  send,
  stopButton,
  test,
} from './daybreak';

/** Long and slow enough that whatever happens meanwhile happens in the middle of the answer. */
const slow = { ctx: 4096, args: ['--prompt-lookup', 'off', '--threads', '1'] };
const long = { temperature: 0, max_tokens: 3000 };
test.use({ options: slow });

test('a page reloaded in the middle of an answer picks it up where it is', async ({
  page,
  daybreak,
}) => {
  await open(page, daybreak, long);
  await send(page, 'Write a long story about a fox.');
  await expect(answers(page)).toHaveText(/\w+ \w+ \w+ \w+/);
  const before = await answers(page).locator('.prose').innerText();
  await page.reload();
  await expect(stopButton(page)).toBeVisible();
  await expect
    .poll(async () => (await answers(page).locator('.prose').innerText()).length)
    .toBeGreaterThan(before.length);
  const after = await answers(page).locator('.prose').innerText();
  expect(after.replace(/\s+/g, ' ').startsWith(before.replace(/\s+/g, ' ').slice(0, -2))).toBe(
    true,
  );
  await expect(receipt(page)).toBeVisible({ timeout: 90_000 });
});

test('an answer goes on while no page is open', async ({ browser, daybreak }) => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await open(page, daybreak, { temperature: 0, max_tokens: 120 });
  await send(page, 'Write a poem about the sea.');
  await expect(page).toHaveURL(/\/c\//);
  await expect(answers(page)).toHaveText(/\w+/);
  const url = page.url();
  await page.close();
  await expect
    .poll(
      async () => {
        const response = await context.request.get(url.replace('/c/', '/api/conversations/'));
        const { messages } = (await response.json()) as {
          messages: { status: string }[];
        };
        return messages.at(-1)?.status;
      },
      { timeout: 90_000 },
    )
    .toBe('complete');
  const again = await context.newPage();
  await again.goto(url);
  await expect(receipt(again)).toBeVisible();
  await context.close();
});

test('what is being written is found again after a reload, in its own conversation', async ({
  page,
  daybreak,
}) => {
  await open(page, daybreak);
  await ask(page, 'Say hi.');
  await composer(page).fill('a thought for later');
  await page.reload();
  await expect(composer(page)).toHaveValue('a thought for later');
  await page.keyboard.press('Control+Shift+O');
  await expect(composer(page)).toHaveValue('');
});

let remove = async () => {};
test.afterEach(async () => {
  await remove();
  remove = async () => {};
});

test('nothing acknowledged is lost by kill -9, and the page finds the server again', async ({
  page,
}) => {
  const daybreak = new Daybreak(slow);
  remove = () => daybreak.remove();
  await daybreak.start();
  await open(page, daybreak, long);
  await send(page, 'Write a very long story about a mountain.');
  await expect.poll(async () => (await answers(page).innerText()).length).toBeGreaterThan(200);
  const seen = (await answers(page).locator('.prose').innerText()).replace(/\s+/g, ' ');
  await page.waitForTimeout(1100);
  await daybreak.end('SIGKILL');
  await expect(page.getByText('The server cannot be reached. Trying again…')).toBeVisible();
  await daybreak.start();
  await expect(page.getByText('The server cannot be reached. Trying again…')).toBeHidden();
  await expect(page.getByText('The server was stopped while it wrote this answer.')).toBeVisible();
  await expect(page.locator('.bubble')).toHaveText('Write a very long story about a mountain.');
  const kept = (await answers(page).locator('.prose').innerText()).replace(/\s+/g, ' ');
  expect(kept.startsWith(seen.slice(0, -5))).toBe(true);
});
