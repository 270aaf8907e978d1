/**
 * Bytes of a `text/event-stream` → the events it carries.
 * Only what our server sends is needed: `data:`, `event:` and `id:` lines, and comments that keep the line open.
 */

export interface ServerSentEvent {
  /** Empty where the stream gave none. */
  id: string;
  type: string;
  /** The JSON value of the data. */
  data: unknown;
}

export class EventStreamParser {
  #rest = '';

  /** Takes a piece of the stream and gives back every event that is whole by now. */
  push(chunk: string): ServerSentEvent[] {
    this.#rest += chunk;
    const blocks = this.#rest.split(/\r\n\r\n|\n\n|\r\r/);
    this.#rest = blocks.pop() ?? '';
    const events: ServerSentEvent[] = [];
    for (const block of blocks) {
      const lines = block.split(/\r\n|\n|\r/);
      const field = (name: string) =>
        lines
          .filter((line) => line.startsWith(`${name}:`))
          .map((line) => line.slice(name.length + (line[name.length + 1] === ' ' ? 2 : 1)));
      const data = field('data');
      if (data.length === 0) continue;
      events.push({
        id: field('id').at(-1) ?? '',
        type: field('event').at(-1) ?? 'message',
        data: JSON.parse(data.join('\n')),
      });
    }
    return events;
  }
}
