/**
 * Lets a text box grow with its text. Browsers that know `field-sizing` do it themselves;
 * for the others the height follows each change.
 */
export function autosize(text: () => string) {
  return (box: HTMLTextAreaElement) => {
    if (CSS.supports('field-sizing', 'content')) return;
    text();
    box.style.height = 'auto';
    box.style.height = `${box.scrollHeight}px`;
  };
}
