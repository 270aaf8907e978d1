/** From a Chinese browser to a Chinese answer: the page offers, fetches and loads a model that speaks it. */
import { answers, expect, receipt, send, test } from './daybreak';

test.use({ options: { withChinese: true }, locale: 'zh-CN' });

test('a Chinese question to an English model leads to a Chinese answer in one click', async ({
  page,
  daybreak,
}) => {
  test.setTimeout(240_000);
  await page.addInitScript(() => {
    localStorage.setItem(
      'daybreak.preferences',
      JSON.stringify({ settings: { temperature: 0, max_tokens: 40 } }),
    );
  });
  await page.goto(daybreak.url);
  await expect(
    page.getByText('SmolLM2 135M Instruct 不会中文。').or(page.getByText(/不会中文。/)),
  ).toBeVisible();
  await send(page, '你好，请用中文介绍一下北京。');
  await expect(page.getByText(/你的消息是中文/)).toBeVisible();
  await page.getByRole('button', { name: /^下载 Qwen2\.5.*491 MB.*并发送$/ }).click();
  await expect(page.getByRole('progressbar').or(receipt(page)).first()).toBeVisible();
  await expect(receipt(page)).toBeVisible({ timeout: 180_000 });
  await expect(page.locator('.bubble')).toHaveText('你好，请用中文介绍一下北京。');
  await expect(answers(page).locator('.prose')).toHaveText(/\p{Script=Han}{5,}/u);
  await expect(page.locator('button.model')).toContainText('Qwen2.5');
});

test('the model list downloads nothing by itself, and deletes after asking', async ({
  page,
  daybreak,
}) => {
  await page.goto(daybreak.url);
  await page.locator('button.model').click();
  const dialog = page.getByRole('dialog', { name: '模型' });
  const row = dialog.locator('li', { hasText: 'Qwen2.5' }).filter({ hasText: /Coder/ }).first();
  await expect(row).toContainText('中文');
  await dialog.getByRole('button', { name: /^使用 SmolLM2/ }).click();
  await page.locator('button.model').click();
  await row.getByRole('button', { name: /^从磁盘删除/ }).click();
  await expect(row).toContainText('491 MB');
  await row.getByRole('button', { name: '删除', exact: true }).click();
  await expect(row.getByRole('button', { name: /^下载/ })).toBeVisible();
});
