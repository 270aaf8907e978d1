/**
 * Whether a key belongs to an input method that is composing (pinyin, kana …): such an Enter
 * chooses a candidate and must never send. Some browsers end the composition before the key
 * event and leave only the key code 229.
 */
export function isComposing(event: KeyboardEvent): boolean {
  return event.isComposing || event.keyCode === 229;
}
