/** A run's model → a new chat with it. */
import { focusComposer } from '$lib/stores/app.svelte';
import type { Training } from '$lib/training/training.svelte';
import type { Run } from '$lib/training/wire';

/** Makes the model known to the chat; its name there, or null when that did not work. */
export async function serve(training: Training, run: Run): Promise<string | null> {
  try {
    const { model } = await training.api.serve(run.id);
    await training.app.models.refresh();
    return model;
  } catch (error) {
    training.report(error);
    return null;
  }
}

export async function chatWith(training: Training, run: Run) {
  const { app } = training;
  const model = await serve(training, run);
  if (model === null) return;
  app.newChat();
  app.useModel(model);
  if (app.models.get(model)?.state !== 'loaded') void app.models.load(model);
  focusComposer();
}
