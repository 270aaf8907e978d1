/**
 * Bytes of a `text/event-stream` → the JSON values it carries.
 * Only what our server sends is needed: `data:` lines, `id:` lines (the number is inside the JSON too)
 * and comments that keep the line open.
 */

export class EventStreamParser {
  #rest = '';

  /** Takes a piece of the stream and gives back every event that is whole by now. */
  push(chunk: string): unknown[] {
    this.#rest += chunk;
    const blocks = this.#rest.split(/\r\n\r\n|\n\n|\r\r/);
    this.#rest = blocks.pop() ?? '';
    const values: unknown[] = [];
    for (const block of blocks) {
      const data = block
        .split(/\r\n|\n|\r/)
        .filter((line) => line.startsWith('data:'))
        .map((line) => line.slice(line.startsWith('data: ') ? 6 : 5));
      if (data.length > 0) values.push(JSON.parse(data.join('\n')));
    }
    return values;
  }
}
