// Lets the installed page open although the server is not there yet, and then say so itself.
// Only the page's own files are kept. What the server knows (/api, /v1 …) never passes through here.
const CACHE = 'daybreak-VERSION';
const SHELL = 'SHELL';

self.addEventListener('install', (event) => {
  const fill = async () => {
    const cache = await caches.open(CACHE);
    await cache.addAll(SHELL);
    await self.skipWaiting();
  };
  event.waitUntil(fill());
});

self.addEventListener('activate', (event) => {
  const tidy = async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith('daybreak-') && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
  };
  event.waitUntil(tidy());
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== 'GET' || origin !== location.origin) return;
  // The server is asked first, so that a new version is there with the next load.
  if (request.mode === 'navigate') event.respondWith(fresh(request, '/'));
  else if (pathname.startsWith('/assets/')) event.respondWith(kept(request));
  else if (SHELL.includes(pathname)) event.respondWith(fresh(request, pathname));
});

/** From the server; what was kept only when it cannot be reached. */
async function fresh(request, path) {
  try {
    return await fetch(request);
  } catch (error) {
    const cache = await caches.open(CACHE);
    const found = await cache.match(path);
    if (found) return found;
    throw error;
  }
}

/** Files with their digest in the name never change: once here, they are not asked for again. */
async function kept(request) {
  const cache = await caches.open(CACHE);
  const found = await cache.match(request);
  if (found) return found;
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone());
  return response;
}
