// Bright spots of a picture and its sharpness, to judge the sample and to find the focus. Rough measures for the eye; the
// calibration itself has its own.
import type { Picture } from "../tracks/history";

const SIGMAS = 6;
const CELL_PX = 4;
const LEAST_CELLS = 2;
/** Bright cells no farther apart belong together: the rings of one pattern are that near. */
const REACH_CELLS = 2;

/** Number of bright areas that stand out of the background; the rings of one pattern are one area. */
export function countSpots(picture: Picture): number {
  const { values, columns, rows } = cells(picture);
  const sorted = Float32Array.from(values).sort();
  const middle = sorted[sorted.length >> 1]!;
  const spread = Math.max(2, middle - sorted[Math.floor(sorted.length * 0.16)]!);
  const limit = Math.min(250, middle + SIGMAS * spread);
  const seen = new Uint8Array(values.length);
  const stack: number[] = [];
  let found = 0;
  for (let start = 0; start < values.length; start++) {
    if (seen[start] || values[start]! < limit) continue;
    let size = 0;
    stack.push(start);
    seen[start] = 1;
    while (stack.length) {
      const at = stack.pop()!;
      size++;
      const [row, column] = [Math.floor(at / columns), at % columns];
      for (let r = Math.max(0, row - REACH_CELLS); r <= Math.min(rows - 1, row + REACH_CELLS); r++) {
        for (let c = Math.max(0, column - REACH_CELLS); c <= Math.min(columns - 1, column + REACH_CELLS); c++) {
          const next = r * columns + c;
          if (seen[next] || values[next]! < limit) continue;
          seen[next] = 1;
          stack.push(next);
        }
      }
    }
    if (size >= LEAST_CELLS) found++;
  }
  return found;
}

/** Mean of each whole square of CELL_PX x CELL_PX pixels. */
function cells({ grey, width, height }: Picture): { values: Float32Array; columns: number; rows: number } {
  const [columns, rows] = [Math.floor(width / CELL_PX), Math.floor(height / CELL_PX)];
  const values = new Float32Array(columns * rows);
  for (let y = 0; y < rows * CELL_PX; y++) {
    const row = Math.floor(y / CELL_PX) * columns;
    for (let x = 0; x < columns * CELL_PX; x++) values[row + Math.floor(x / CELL_PX)]! += grey[y * width + x]! / CELL_PX ** 2;
  }
  return { values, columns, rows };
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
