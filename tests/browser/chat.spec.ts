/** Saying something and what can be done with the answer. */
import { answers, ask, composer, expect, open, receipt, send, stopButton, test } from './daybreak';

test('a question is answered word by word, with its speed and its receipt', async ({
  page,
  daybreak,
}) => {
  await open(page, daybreak);
  await send(page, 'Name three colours.');
  await expect(page).toHaveURL(/\/c\/[0-9a-f-]{36}$/);
  await expect(receipt(page)).toContainText(/tok\/s · first token [\d.]+ s/);
  await expect(answers(page)).toHaveText(/\w{3,}/);
  await expect(page).toHaveTitle(/Name three colours.* · Daybreak/);
  await expect(
    page.getByRole('navigation').getByRole('link', { name: /Name three colours/ }),
  ).toBeVisible();
  await receipt(page).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('smollm2:135m');
  await expect(dialog).toContainText('Temperature');
  await page.keyboard.press('Escape');
  await expect(dialog).toBeHidden();
});

test('the page of a Chinese browser speaks Chinese throughout', async ({ browser, daybreak }) => {
  const context = await browser.newContext({ locale: 'zh-CN' });
  const page = await context.newPage();
  await page.goto(daybreak.url);
  await expect(page.getByRole('heading', { name: '今天想聊点什么？' })).toBeVisible();
  await expect(page.locator('html')).toHaveAttribute('lang', 'zh-CN');
  await send(page, 'Say hello.');
  await expect(receipt(page)).toContainText('词元/秒');
  const words = await page.locator('body').innerText();
  expect(
    words
      .replace(/SmolLM2.*|Daybreak|Say hello\.|English/g, '')
      .match(/\b(New|Search|Settings|Message|Copy|model)\b/),
  ).toBeNull();
  await page.getByRole('button', { name: '设置与帮助' }).click();
  await page.getByText('English', { exact: true }).click();
  await expect(page.getByRole('button', { name: 'New chat' }).first()).toBeVisible();
  await expect(page.locator('html')).toHaveAttribute('lang', 'en');
  await page.reload();
  await expect(page.locator('html')).toHaveAttribute('lang', 'en');
  await context.close();
});

test('an answer can be stopped, and goes on when asked to', async ({ page, daybreak }) => {
  // At temperature 0 the small model goes round in circles over this one, so that there is time to stop it.
  await open(page, daybreak, { temperature: 0, max_tokens: 1500 });
  await send(page, 'What is the capital of France?');
  await expect(answers(page)).toHaveText(/\w+ \w+ \w+/);
  await stopButton(page).click();
  await expect(page.getByText('Stopped.')).toBeVisible();
  await expect(stopButton(page)).toBeHidden();
  const before = await answers(page).locator('.prose').innerText();
  await page.getByRole('button', { name: 'Continue this answer' }).click();
  await expect
    .poll(async () => (await answers(page).locator('.prose').innerText()).length)
    .toBeGreaterThan(before.length + 20);
  await page.keyboard.press('Escape');
  await expect(page.getByText('Stopped.')).toBeVisible();
});

test('regenerating keeps both answers, and each can be read again', async ({ page, daybreak }) => {
  await open(page, daybreak, { temperature: 1, max_tokens: 16 });
  await ask(page, 'Invent a name for a boat.');
  const first = await answers(page).locator('.prose').innerText();
  await page.getByRole('button', { name: 'Write the answer again' }).click();
  await expect(page.getByRole('img', { name: 'Version 2 of 2' })).toBeVisible();
  await expect(receipt(page)).toBeVisible();
  await page.getByRole('button', { name: 'Previous version' }).click();
  await expect(page.getByRole('img', { name: 'Version 1 of 2' })).toBeVisible();
  await expect.poll(() => answers(page).locator('.prose').innerText()).toBe(first);
  await page.waitForTimeout(300);
  await page.reload();
  await expect(page.getByRole('img', { name: 'Version 1 of 2' })).toBeVisible();
});

test('an edited question is a new branch beside the old one', async ({ page, daybreak }) => {
  await open(page, daybreak);
  await ask(page, 'What is the capital of France?');
  await composer(page).press('ArrowUp');
  const box = page.getByRole('textbox', { name: 'Edit your message' });
  await box.fill('What is the capital of Italy?');
  await box.press('Enter');
  await expect(page.locator('.bubble')).toHaveText('What is the capital of Italy?');
  await expect(receipt(page)).toBeVisible();
  await page.locator('article').first().getByRole('button', { name: 'Previous version' }).click();
  await expect(page.locator('.bubble')).toHaveText('What is the capital of France?');
  await expect(receipt(page)).toBeVisible();
});

test('Enter that chooses an input method’s candidate does not send', async ({ page, daybreak }) => {
  await open(page, daybreak);
  await composer(page).focus();
  const client = await page.context().newCDPSession(page);
  await client.send('Input.imeSetComposition', {
    text: 'ni hao',
    selectionStart: 6,
    selectionEnd: 6,
  });
  await composer(page).dispatchEvent('keydown', {
    key: 'Enter',
    keyCode: 229,
    isComposing: true,
    bubbles: true,
  });
  await composer(page).dispatchEvent('keydown', {
    key: 'Enter',
    keyCode: 13,
    isComposing: true,
    bubbles: true,
  });
  await client.send('Input.insertText', { text: '你好' });
  await page.waitForTimeout(200);
  await expect(page).toHaveURL(daybreak.url + '/');
  await expect(composer(page)).toHaveValue('你好');
  await composer(page).press('Shift+Enter');
  await expect(composer(page)).toHaveValue('你好\n');
});

test('files are attached by choosing, dropping and pasting, with their tokens', async ({
  page,
  daybreak,
}) => {
  await open(page, daybreak);
  await page.locator('form input[type=file]').setInputFiles({
    name: 'hello.py',
    mimeType: 'text/x-python',
    buffer: Buffer.from('print("hello")\n'),
  });
  await expect(page.getByRole('button', { name: 'Show hello.py' })).toContainText(/\d+ tokens/);
  await page.evaluate(() => {
    const data = new DataTransfer();
    data.items.add(new File(['let x = 1'], 'drop.ts'));
    data.items.add(new File([new Uint8Array([0, 1, 2, 3])], 'photo.png'));
    window.dispatchEvent(
      new DragEvent('drop', {
        dataTransfer: data,
        bubbles: true,
        cancelable: true,
      }),
    );
  });
  await expect(page.getByRole('button', { name: 'Show drop.ts' })).toBeVisible();
  await expect(page.locator('.toast', { hasText: 'photo.png is not a text file.' })).toBeVisible();
  await composer(page).evaluate((box) => {
    const data = new DataTransfer();
    data.setData('text/plain', 'word '.repeat(1000));
    box.dispatchEvent(
      new ClipboardEvent('paste', {
        clipboardData: data,
        bubbles: true,
        cancelable: true,
      }),
    );
  });
  await expect(page.getByRole('button', { name: 'Show pasted-text-1.txt' })).toBeVisible();
  await page.getByRole('button', { name: 'Remove pasted-text-1.txt' }).click();
  await ask(page, 'What does this print?');
  await expect(
    page.locator('article').first().getByRole('button', { name: 'Show hello.py' }),
  ).toBeVisible();
});

test('a system prompt and settings hold for their conversation', async ({ page, daybreak }) => {
  await open(page, daybreak);
  await page.getByRole('button', { name: 'Chat settings' }).click();
  await page.getByLabel('System prompt').fill('You are a pirate.');
  await page.getByRole('spinbutton', { name: 'Temperature' }).fill('0.3');
  await page.keyboard.press('Escape');
  await expect(page.getByRole('button', { name: 'Chat settings (changed)' })).toBeVisible();
  await ask(page, 'Who are you?');
  await receipt(page).click();
  await expect(page.getByRole('dialog')).toContainText('You are a pirate.');
  await expect(page.getByRole('dialog')).toContainText('0.3');
});
