// The imaged volume, which the scene draws as a box, µm.

export interface Volume {
  x: readonly [number, number];
  y: readonly [number, number];
  z: readonly [number, number];
}

/** The box until the service has sent the size of the field: 256 pixels and the depth range of the shipped model. */
export const UNKNOWN: Volume = { x: [0, 166.4], y: [0, 166.4], z: [0, 100] };

export function sameVolume(a: Volume, b: Volume): boolean {
  return (["x", "y", "z"] as const).every((axis) => a[axis][0] === b[axis][0] && a[axis][1] === b[axis][1]);
}

/** Round numbers that divide the range from `low` to `high` into about `count` parts. */
export function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!;
  const found: number[] = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) {
    found.push(Math.abs(value) < step * 1e-6 ? 0 : value);
  }
  return found;
}
