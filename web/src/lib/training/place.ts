/** A place in training, as the address bar has it behind `/training/`. */

export type Place =
  | { kind: 'runs' }
  | { kind: 'compare'; ids: string[] }
  | { kind: 'run'; id: string }
  /** With the settings of the run `from`, or with `data` chosen. */
  | { kind: 'new'; recipe: string | null; from?: string | null; data?: string | null }
  | { kind: 'data'; name: string | null };

export function parsePlace(path: string): Place {
  const [first = '', second = '', third = ''] = path.split('/').map(decode);
  switch (first) {
    case 'runs':
      return second === '' ? { kind: 'runs' } : { kind: 'run', id: second };
    case 'compare':
      return { kind: 'compare', ids: second.split(',').filter((id) => id !== '') };
    case 'new':
      if (second === 'like' && third !== '') return { kind: 'new', recipe: null, from: third };
      if (second === '') return { kind: 'new', recipe: null };
      return { kind: 'new', recipe: second, ...(third === '' ? {} : { data: third }) };
    case 'data':
      return { kind: 'data', name: second === '' ? null : second };
    default:
      return { kind: 'runs' };
  }
}

export function placePath(place: Place): string {
  switch (place.kind) {
    case 'runs':
      return '';
    case 'compare':
      return `compare/${place.ids.map(encodeURIComponent).join(',')}`;
    case 'run':
      return `runs/${encodeURIComponent(place.id)}`;
    case 'new':
      if (place.from) return `new/like/${encodeURIComponent(place.from)}`;
      return ['new', place.recipe, place.data]
        .filter((part) => part != null)
        .map((part) => encodeURIComponent(part))
        .join('/');
    case 'data':
      return place.name === null ? 'data' : `data/${encodeURIComponent(place.name)}`;
  }
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
