// Bright spots of a picture and its sharpness, to judge the sample and to find the focus. Rough measures for the eye; the
// calibration itself has its own.
import type { Picture } from "../tracks/history";

const SIGMAS = 6;
const LEAST_PX = 4;

/** Number of connected bright areas that stand out of the background. */
export function countSpots({ grey, width, height }: Picture): number {
  const sorted = Uint8Array.from(grey).sort();
  const middle = sorted[sorted.length >> 1]!;
  const spread = Math.max(2, middle - sorted[Math.floor(sorted.length * 0.16)]!);
  const limit = Math.min(250, middle + SIGMAS * spread);
  const seen = new Uint8Array(grey.length);
  const stack: number[] = [];
  let found = 0;
  for (let start = 0; start < grey.length; start++) {
    if (seen[start] || grey[start]! < limit) continue;
    let size = 0;
    stack.push(start);
    seen[start] = 1;
    while (stack.length) {
      const at = stack.pop()!;
      size++;
      const x = at % width;
      for (const next of [x > 0 ? at - 1 : -1, x < width - 1 ? at + 1 : -1, at - width, at + width]) {
        if (next < 0 || next >= width * height || seen[next] || grey[next]! < limit) continue;
        seen[next] = 1;
        stack.push(next);
      }
    }
    if (size >= LEAST_PX) found++;
  }
  return found;
}

/** Variance of the picture's counts between neighbours, relative to their mean: highest in focus. */
export function sharpness({ grey, width, low_adu, high_adu }: Picture): number {
  let sum = 0;
  const perGrey = (high_adu - low_adu) / 255;
  for (let at = 0; at + width + 1 < grey.length; at++) {
    const [dx, dy] = [grey[at + 1]! - grey[at]!, grey[at + width]! - grey[at]!];
    sum += dx * dx + dy * dy;
  }
  return (sum / grey.length) * perGrey * perGrey;
}
