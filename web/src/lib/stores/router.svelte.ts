/** The address bar: `/` is a new chat, `/c/{id}` a conversation, `/training/…` a place in training. */

export type Route =
  | { kind: 'new' }
  | { kind: 'conversation'; id: string }
  /** What stands behind `/training/`, as it stands there. */
  | { kind: 'training'; place: string };

export class Router {
  #route = $state.raw<Route>(parse(location.pathname));

  constructor() {
    addEventListener('popstate', () => {
      this.#route = parse(location.pathname);
    });
  }

  get route(): Route {
    return this.#route;
  }

  go(route: Route, options: { replace?: boolean } = {}) {
    const path = pathOf(route);
    if (path === location.pathname) {
      this.#route = route;
      return;
    }
    if (options.replace) history.replaceState(null, '', path);
    else history.pushState(null, '', path);
    this.#route = route;
  }
}

export function pathOf(route: Route): string {
  if (route.kind === 'training')
    return route.place === '' ? '/training' : `/training/${route.place}`;
  return route.kind === 'new' ? '/' : `/c/${encodeURIComponent(route.id)}`;
}

export function parse(path: string): Route {
  const training = /^\/training(?:\/(.*))?$/.exec(path);
  if (training) return { kind: 'training', place: training[1] ?? '' };
  const id = /^\/c\/([^/]+)\/?$/.exec(path)?.[1];
  return id === undefined ? { kind: 'new' } : { kind: 'conversation', id: decodeURIComponent(id) };
}
