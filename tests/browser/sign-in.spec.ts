/** A server with a key asks for it once. */
import { composer, expect, test } from './daybreak';

test.use({ options: { args: ['--api-key', 'open sesame'] } });

test('the key is asked for once, kept for the session and given up on signing out', async ({
  page,
  daybreak,
}) => {
  await page.goto(daybreak.url);
  const key = page.getByLabel('API key');
  await expect(key).toBeFocused();
  await key.fill('wrong');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('alert')).toHaveText('This is not the key of this server.');
  await key.fill('open sesame');
  await page.keyboard.press('Enter');
  await expect(composer(page)).toBeVisible();
  expect(await page.evaluate(() => document.cookie)).toBe('');
  await page.reload();
  await expect(composer(page)).toBeVisible();
  await page.getByRole('button', { name: 'Settings and help' }).click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await expect(key).toBeVisible();
});
