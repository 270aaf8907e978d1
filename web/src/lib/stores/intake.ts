/** Files and long pastes on their way into a draft, with their token counts. */
import {
  LONG_PASTE_CHARS,
  MAX_FILE_BYTES,
  pastedFile,
  readAttachment,
  type Refusal,
} from '../attachments';
import type { FilePart } from '../wire';
import type { App } from './app.svelte';
import type { Chat } from './chat.svelte';

export async function attachFiles(app: App, chat: Chat, files: Iterable<File>) {
  for (const file of files) {
    const result = await readAttachment(file);
    if (result.ok) add(app, chat, result.part);
    else app.toasts.show(refusalText(app, result.name, result.reason), { kind: 'error' });
  }
}

/** True when the paste was taken as a file; a short one goes into the text as usual. */
export function attachPaste(app: App, chat: Chat, text: string): boolean {
  if (text.length < LONG_PASTE_CHARS) return false;
  const taken = new Set(app.drafts.of(chat.key).files.map((file) => file.name));
  let index = 1;
  while (taken.has(app.t.composer.pastedName(index))) index += 1;
  add(app, chat, pastedFile(text, app.t.composer.pastedName(index)));
  return true;
}

function add(app: App, chat: Chat, part: FilePart) {
  const draft = app.drafts.of(chat.key);
  draft.files = [...draft.files, part];
}

/** Asks how many tokens the files of a draft have; only a model in memory can tell. */
export async function countFiles(app: App, chat: Chat) {
  const draft = app.drafts.of(chat.key);
  for (const part of draft.files.filter((file) => file.tokens === undefined)) {
    try {
      const { tokens } = await app.api.count({ model: chat.model, text: part.text });
      draft.files = draft.files.map((file) => (file === part ? { ...part, tokens } : file));
    } catch {
      return;
    }
  }
}

function refusalText(app: App, name: string, reason: Refusal): string {
  const { files } = app.t;
  switch (reason) {
    case 'binary':
      return files.binary(name);
    case 'too_large':
      return files.tooLarge(name, MAX_FILE_BYTES);
    case 'empty':
      return files.empty(name);
    case 'unreadable':
      return files.unreadable(name);
  }
}
