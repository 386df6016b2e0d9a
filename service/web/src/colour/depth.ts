// The colour scale of depth. Lightness falls with depth all the way, so that the scale is read in grey and by people who
// do not tell all colours; `tests/depth.test.ts` measures both. One scale for dark grounds, one for light ones.

type Rgb = readonly [number, number, number];

export const RAMPS: Record<"dark" | "light", readonly Rgb[]> = {
  dark: [[238, 236, 156], [167, 240, 76], [94, 197, 211], [93, 128, 187], [129, 83, 222]],
  light: [[164, 132, 29], [113, 120, 63], [39, 111, 90], [62, 55, 164], [75, 0, 94]],
}; // prettier-ignore

export type Ground = keyof typeof RAMPS;

/** Red, green and blue (0..1) at `fraction` (0..1) of the range. */
export function rampColour(fraction: number, ground: Ground): [number, number, number] {
  const stops = RAMPS[ground];
  const place = Math.min(Math.max(fraction, 0), 1) * (stops.length - 1) || 0;
  const lower = Math.min(Math.floor(place), stops.length - 2);
  const part = place - lower;
  const [a, b] = [stops[lower]!, stops[lower + 1]!];
  return [0, 1, 2].map((i) => (a[i]! + (b[i]! - a[i]!) * part) / 255) as [number, number, number];
}

export function css([r, g, b]: readonly number[]): string {
  return `rgb(${Math.round(r! * 255)} ${Math.round(g! * 255)} ${Math.round(b! * 255)})`;
}
