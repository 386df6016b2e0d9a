// The colour scale of depth in the scene, the preview and the legend. Low depths are warm and bright, high depths are
// cold, and all colours are light enough for the dark background.

const STOPS: readonly (readonly [number, number, number])[] = [
  [255, 223, 140],
  [139, 227, 150],
  [54, 197, 200],
  [92, 146, 247],
  [184, 112, 242],
];

/** Red, green and blue (0..1) at `fraction` (0..1) of the range. */
export function depthColour(fraction: number): [number, number, number] {
  const place = Math.min(Math.max(fraction, 0), 1) * (STOPS.length - 1);
  const lower = Math.min(Math.floor(place), STOPS.length - 2);
  const part = place - lower;
  const [a, b] = [STOPS[lower]!, STOPS[lower + 1]!];
  return [0, 1, 2].map((i) => (a[i]! + (b[i]! - a[i]!) * part) / 255) as [number, number, number];
}

export function cssColour(fraction: number): string {
  const [r, g, b] = depthColour(fraction);
  return `rgb(${Math.round(r * 255)} ${Math.round(g * 255)} ${Math.round(b * 255)})`;
}

/** Draw the scale from bottom (low) to top (high). */
export function drawRamp(canvas: HTMLCanvasElement): void {
  const context = canvas.getContext("2d")!;
  for (let row = 0; row < canvas.height; row++) {
    context.fillStyle = cssColour(1 - row / (canvas.height - 1));
    context.fillRect(0, row, canvas.width, 1);
  }
}
