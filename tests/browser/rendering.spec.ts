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
  // Thread time, not wall time: what the page costs does not depend on what else this machine does.
  const client = await page.context().newCDPSession(page);
  await client.send('Performance.enable', { timeDomain: 'threadTicks' });
  const spent = async () => {
    const { metrics } = await client.send('Performance.getMetrics');
    return (metrics.find(({ name }) => name === 'TaskDuration')?.value ?? 0) * 1000;
  };
  const before = await spent();
  await page.getByRole('link', { name: 'Long', exact: true }).click();
  await expect(page.getByText('Answer 1999')).toBeVisible();
  const opened = (await spent()) - before;
  const steps = 120;
  const top = await page.evaluate(async (count) => {
    const scroller = document.querySelector('#messages');
    if (!scroller) throw new Error('no messages');
    let moved = 0;
    for (let i = 0; i < count; i += 1) {
      scroller.scrollTop -= 400;
      moved += 400;
      await new Promise(requestAnimationFrame);
    }
    return moved;
  }, steps);
  const step = ((await spent()) - before - opened) / steps;
  console.log(
    `2,000 messages: ${opened.toFixed(0)} ms of work to open, ${step.toFixed(1)} ms for each of ${steps} steps over ${top} px`,
  );
  expect(opened).toBeLessThan(1500);
  expect(step).toBeLessThan(33);
});

test('a reader who scrolled up is not moved by what is being written', async ({
  page,
  daybreak,
}) => {
  await open(page, daybreak, { temperature: 0, max_tokens: 300 });
  await importConversations(page, [
    exported(
      'Reading',
      Array.from({ length: 20 }, (_, i) => `Paragraph ${i}. ${'Words and words. '.repeat(10)}`),
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
