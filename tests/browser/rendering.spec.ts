/** How answers are set, what they may not do, and how it stays light and quick. */
import { exported, expect, importConversations, open, test } from './daybreak';

const hostile = [
  '<script>window.pwned = 1</script>',
  '<img src=x onerror="window.pwned = 2">',
  '[click](javascript:window.pwned=3)',
  '<svg onload="window.pwned = 4"><a href="javascript:window.pwned=5">x</a></svg>',
  '![beacon](http://127.0.0.1:9/beacon.png)',
  '<iframe srcdoc="<script>parent.pwned = 6</script>"></iframe>',
  '$\\href{javascript:window.pwned=7}{x}$ and $\\includegraphics{http://127.0.0.1:9/x.png}$',
  '```html\n<script>window.pwned = 8</script>\n```',
  '<style>body { display: none }</style><form action="http://127.0.0.1:9/"><button>go</button></form>',
].join('\n\n');

test('HTML and script in an answer never run, and nothing is fetched from elsewhere', async ({
  page,
  daybreak,
}) => {
  const foreign: string[] = [];
  page.on('request', (request) => {
    if (!request.url().startsWith(daybreak.url) && !request.url().startsWith('blob:'))
      foreign.push(request.url());
  });
  await open(page, daybreak);
  await importConversations(page, [exported('Hostile', [hostile, hostile])]);
  await page.getByRole('link', { name: 'Hostile', exact: true }).click();
  const answer = page.locator('article').last();
  await expect(answer.locator('.code')).toContainText('window.pwned = 8');
  await expect(answer).toContainText('<script>window.pwned = 1</script>');
  await page.waitForTimeout(500);
  expect(await page.evaluate(() => (window as { pwned?: number }).pwned)).toBeUndefined();
  expect(
    await answer.locator('script, iframe, svg:not([aria-hidden]), style, form, .prose img').count(),
  ).toBe(0);
  for (const link of await answer.locator('.prose a').all()) {
    expect(await link.getAttribute('href')).toMatch(/^https?:/);
    expect(await link.getAttribute('rel')).toContain('noopener');
  }
  expect(foreign).toEqual([]);
});

test('tables, code and formulas are drawn', async ({ page, daybreak }) => {
  await open(page, daybreak);
  const text =
    '| a | b |\n|---|--:|\n| 1 | 2 |\n\n```python\nprint("x")\n```\n\n$$\\frac{1}{2}$$\n\nand \\(x^2\\), but $5 and $6.';
  await importConversations(page, [exported('Typeset', ['Show me', text])]);
  await page.getByRole('link', { name: 'Typeset', exact: true }).click();
  const answer = page.locator('article').last();
  await expect(answer.getByRole('table')).toContainText('a');
  await expect(answer.locator('.hljs-built_in, .hljs-title, .hljs-string').first()).toBeVisible();
  await expect(answer.locator('.katex')).toHaveCount(2);
  await expect(answer).toContainText('but $5 and $6.');
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await answer.getByRole('button', { name: 'Copy code' }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe('print("x")');
});

test('a conversation of 2,000 messages opens quickly and scrolls smoothly', async ({
  page,
  daybreak,
}) => {
  await open(page, daybreak);
  const turns = Array.from({ length: 2000 }, (_, i) =>
    i % 2 === 0
      ? `Question ${i}`
      : `Answer ${i} is **bold**:\n\n- one\n- two\n\n\`\`\`js\nlet x = ${i}\n\`\`\``,
  );
  await importConversations(page, [exported('Long', turns)]);
  const began = Date.now();
  await page.getByRole('link', { name: 'Long', exact: true }).click();
  await expect(page.getByText('Answer 1999')).toBeVisible();
  const opened = Date.now() - began;
  const frames = await page.evaluate(async () => {
    const scroller = document.querySelector('#messages');
    if (!scroller) throw new Error('no messages');
    const times: number[] = [];
    let last = performance.now();
    for (let i = 0; i < 120; i += 1) {
      scroller.scrollTop -= 400;
      await new Promise(requestAnimationFrame);
      times.push(performance.now() - last);
      last = performance.now();
    }
    return times.sort((a, b) => a - b);
  });
  const [median, worst] = [frames[60] ?? 0, frames.at(-1) ?? 0];
  console.log(
    `2,000 messages: opened in ${opened} ms, frame median ${median.toFixed(1)} ms, worst ${worst.toFixed(0)} ms`,
  );
  expect(opened).toBeLessThan(3000);
  expect(median).toBeLessThan(34);
  expect(worst).toBeLessThan(500);
});

test('a reader who scrolled up is not moved by what is being written', async ({
  page,
  daybreak,
}) => {
  await open(page, daybreak, { temperature: 0, max_tokens: 300 });
  await importConversations(page, [
    exported(
      'Reading',
      Array.from({ length: 20 }, (_, i) => `Paragraph ${i}. ${'Words and words. '.repeat(40)}`),
    ),
  ]);
  await page.getByRole('link', { name: 'Reading', exact: true }).click();
  await expect(page.locator('article').last()).toBeVisible();
  await page.locator('#composer').fill('Write a long story.');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('button', { name: 'Stop the answer' })).toBeVisible();
  const scroller = page.locator('#messages');
  await scroller.evaluate((element) => element.scrollBy(0, -1500));
  await page.waitForTimeout(300);
  const place = () =>
    page.evaluate(
      () =>
        document
          .elementFromPoint(innerWidth / 2 + 100, 300)
          ?.closest('article')
          ?.getBoundingClientRect().top ?? null,
    );
  const before = await place();
  await page.waitForTimeout(1500);
  expect(Math.abs(((await place()) ?? 0) - (before ?? 0))).toBeLessThan(2);
  await page.getByRole('button', { name: 'To the latest message' }).click();
  await expect
    .poll(() =>
      scroller.evaluate(
        (element) => element.scrollHeight - element.scrollTop - element.clientHeight,
      ),
    )
    .toBeLessThan(40);
  await page.keyboard.press('Escape');
});

test('at most 200 kB of compressed script come before the first message can be typed', async ({
  browser,
  daybreak,
}) => {
  const page = await (await browser.newContext()).newPage();
  const client = await page.context().newCDPSession(page);
  await client.send('Network.enable');
  const scripts = new Map<string, string>();
  let bytes = 0;
  let typed = false;
  client.on('Network.responseReceived', ({ requestId, response, type }) => {
    if (type === 'Script' && !typed) scripts.set(requestId, response.url);
  });
  client.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
    if (scripts.has(requestId)) bytes += encodedDataLength;
  });
  await page.goto(daybreak.url, { waitUntil: 'commit' });
  await page.locator('#composer').fill('hello');
  typed = true;
  console.log(
    `script before the first message: ${(bytes / 1000).toFixed(1)} kB in ${scripts.size} files`,
  );
  expect(scripts.size).toBeGreaterThan(0);
  expect(bytes).toBeGreaterThan(10_000);
  expect(bytes).toBeLessThanOrEqual(200_000);
  await page.context().close();
});
