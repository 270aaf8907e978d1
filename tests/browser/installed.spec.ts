/** Installed on a phone: the page opens without its server, keeps nothing of what was said, and is never an old one. */
import { ask, composer, expect, open, test } from './daybreak';

test('it can be installed', async ({ page, daybreak }) => {
  await page.goto(daybreak.url);
  const client = await page.context().newCDPSession(page);
  const { installabilityErrors } = (await client.send('Page.getInstallabilityErrors')) as {
    installabilityErrors: { errorId: string }[];
  };
  // A browser without a window of its own cannot install anything.
  expect(
    installabilityErrors.map(({ errorId }) => errorId).filter((id) => id !== 'in-incognito'),
  ).toEqual([]);
  const { data } = await client.send('Page.getAppManifest');
  const { icons } = JSON.parse(data ?? '{}') as { icons: { src: string }[] };
  for (const { src } of icons) {
    const answer = await page.request.get(new URL(src, daybreak.url).href);
    expect(answer.status(), src).toBe(200);
    expect(answer.headers()['content-type'], src).toMatch(/^image\//);
  }
});

test('it opens without its server, says so, and comes back with it', async ({ page, daybreak }) => {
  await open(page, daybreak);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await ask(page, 'Say hello.');
  const kept = await page.evaluate(async () => {
    const paths: string[] = [];
    for (const name of await caches.keys())
      for (const request of await (await caches.open(name)).keys())
        paths.push(new URL(request.url).pathname);
    return paths;
  });
  expect(kept).toContain('/');
  expect(kept.filter((path) => /^\/(api|v1|c)\//.test(path))).toEqual([]);

  await daybreak.end();
  await page.goto(daybreak.url);
  await expect(page.getByText('Waiting for the server…')).toBeVisible();
  await expect(composer(page)).toBeVisible();
  await daybreak.start();
  await expect(page.getByText('Waiting for the server…')).toBeHidden({
    timeout: 60_000,
  });
  await expect(page.getByRole('link', { name: /Say hello/ }).first()).toBeVisible();
});

test('what is kept is never shown while the server answers', async ({ page, daybreak }) => {
  await page.goto(daybreak.url);
  await page.evaluate(async () => {
    await navigator.serviceWorker.ready;
    for (const name of await caches.keys())
      await (
        await caches.open(name)
      ).put(
        '/',
        new Response('<h1>An old version</h1>', { headers: { 'content-type': 'text/html' } }),
      );
  });
  await page.reload();
  await expect(composer(page)).toBeVisible();
  await daybreak.end();
  await page.goto(daybreak.url);
  await expect(page.getByText('An old version')).toBeVisible();
  await daybreak.start();
  await page.goto(daybreak.url);
  await expect(composer(page)).toBeVisible();
});
