/** Puts a floating panel beside the thing that opened it, wherever there is room. */
const GAP = 6;
const EDGE = 8;

export function place(panel: HTMLElement, anchor: HTMLElement) {
  const at = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = panel;
  const below = at.bottom + GAP + height + EDGE <= innerHeight || at.top < height;
  const top = below ? at.bottom + GAP : at.top - GAP - height;
  const left = at.left + width + EDGE <= innerWidth ? at.left : at.right - width;
  panel.style.top = `${Math.max(EDGE, Math.min(top, innerHeight - height - EDGE))}px`;
  panel.style.left = `${Math.max(EDGE, Math.min(left, innerWidth - width - EDGE))}px`;
}
