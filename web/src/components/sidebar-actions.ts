/** Opening and closing the sidebar: a column on a wide screen, a drawer on a narrow one. */
import { tick } from 'svelte';
import type { App } from '$lib/stores/app.svelte';

export const NARROW = '(max-width: 47.99rem)';

export function toggleSidebar(app: App) {
  if (matchMedia(NARROW).matches) app.drawer = !app.drawer;
  else app.preferences.change({ sidebar: !app.preferences.sidebar });
}

export async function focusSearch(app: App) {
  if (matchMedia(NARROW).matches) app.drawer = true;
  else if (!app.preferences.sidebar) app.preferences.change({ sidebar: true });
  await tick();
  document.querySelector<HTMLInputElement>('#search')?.select();
}
