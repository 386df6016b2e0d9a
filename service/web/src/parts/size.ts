// The size of marks follows that of the text, which grows with the screen.

const USUAL_PX = 14;

/** Factor of lengths in pixels on this screen. */
export function markScale(): number {
  return parseFloat(getComputedStyle(document.documentElement).fontSize) / USUAL_PX || 1;
}
