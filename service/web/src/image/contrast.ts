// Contrast of the camera picture: which counts are black and which are white, and the histogram of what is shown.
import type { Picture } from "../tracks/history";

export interface Contrast {
  black: number;
  white: number;
}

/** Counts shown as black and white when nothing is set. */
export function automatic({ low_adu, high_adu }: Picture): Contrast {
  return { black: low_adu, white: high_adu };
}

/** Grey on the screen for each grey of the picture, which spans `low_adu` to `high_adu`. */
export function table({ low_adu, high_adu }: Picture, { black, white }: Contrast): Uint8Array {
  const grey = new Uint8Array(256);
  for (let value = 0; value < 256; value++) {
    const adu = low_adu + (value / 255) * (high_adu - low_adu);
    grey[value] = Math.round(Math.min(1, Math.max(0, (adu - black) / Math.max(1e-9, white - black))) * 255);
  }
  return grey;
}

export interface Histogram {
  low_adu: number;
  bin_adu: number;
  pixels: ArrayLike<number>;
}

const BINS = 64;

/** Pixels by count: of the frame where the service sends it, else of the picture, which spans what is black to what is white. */
export function histogram({ histogram: sent, grey, low_adu, high_adu }: Picture): Histogram {
  if (sent) return sent;
  const pixels = new Uint32Array(BINS);
  for (let i = 0; i < grey.length; i++) pixels[grey[i]! >> 2]!++;
  return { low_adu, bin_adu: (high_adu - low_adu) / BINS, pixels };
}

/**
 * Pixels at the highest count of the camera. The service counts them on the whole frame; without that they are counted on
 * the picture, if its white is that count. Null: unknown.
 */
export function saturated(picture: Picture, bit_depth: number | null): number | null {
  if (picture.saturated !== null) return picture.saturated;
  if (bit_depth === null) return null;
  if (picture.high_adu < 2 ** bit_depth - 1) return 0;
  let count = 0;
  for (let i = 0; i < picture.grey.length; i++) if (picture.grey[i] === 255) count++;
  return count * picture.scale ** 2;
}
