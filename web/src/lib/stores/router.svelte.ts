/** The address bar: `/` is a new chat, `/c/{id}` a conversation. */

export type Route = { kind: 'new' } | { kind: 'conversation'; id: string };

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
  return route.kind === 'new' ? '/' : `/c/${encodeURIComponent(route.id)}`;
}

export function parse(path: string): Route {
  const id = /^\/c\/([^/]+)\/?$/.exec(path)?.[1];
  return id === undefined ? { kind: 'new' } : { kind: 'conversation', id: decodeURIComponent(id) };
}
