/** What happens when a conversation is longer than the model can read. */
import { ask, expect, open, send, test } from './daybreak';

test.use({ options: { ctx: 512 } });

test('a full conversation asks what to leave out, and the answer says how much', async ({
  page,
  daybreak,
}) => {
  await open(page, daybreak, { temperature: 0, max_tokens: 16 });
  await ask(page, `Remember this. ${'The sea is wide and calm today. '.repeat(35)}`);
  await send(page, `And this. ${'The hills are green and quiet. '.repeat(35)}`);
  const notice = page.getByRole('region', {
    name: 'This conversation is full',
  });
  await expect(notice).toContainText('512');
  await notice.getByRole('button', { name: /Leave out the oldest messages/ }).click();
  await expect(page.getByText(/older messages? (was|were) left out/)).toBeVisible();
  await expect(notice).toBeHidden();
});
