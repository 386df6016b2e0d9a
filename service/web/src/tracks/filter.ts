// Which tracks of a run are shown, and how that is written into the address of the view.
import { NEAR_FOCUS_UM, type Track } from "./recorded";

/** Ends of a range; null: open. */
export type Ends = readonly [number | null, number | null];

export interface Filter {
  min_points: number;
  /** Mean depth, µm. */
  depth: Ends;
  /** Path length over duration, µm/s. */
  speed: Ends;
  /** Place, µm: a track passes when one of its points is in the box. */
  x: Ends;
  y: Ends;
  z: Ends;
  near_focus: boolean;
}

const OPEN: Ends = [null, null];
export const NO_FILTER: Filter = { min_points: 1, depth: OPEN, speed: OPEN, x: OPEN, y: OPEN, z: OPEN, near_focus: true };
export const RANGES = ["depth", "speed", "x", "y", "z"] as const;
export type RangeName = (typeof RANGES)[number];

function within(value: number, [from, to]: Ends): boolean {
  return (from === null || value >= from) && (to === null || value <= to);
}

function isOpen([from, to]: Ends): boolean {
  return from === null && to === null;
}

export function passes(track: Track, { min_points, depth, speed, x, y, z, near_focus }: Filter): boolean {
  if (track.points < min_points || !within(track.mean_z, depth) || !within(track.speed, speed)) return false;
  if (!near_focus && Math.abs(track.mean_z) <= NEAR_FOCUS_UM) return false;
  if (isOpen(x) && isOpen(y) && isOpen(z)) return true;
  for (let at = track.from; at < track.to; at++) if (within(track.x[at]!, x) && within(track.y[at]!, y) && within(track.z[at]!, z)) return true;
  return false;
}

/** Values of the address; empty ones are left out of it. */
export function addressOf(filter: Filter): Record<string, string> {
  const values: Record<string, string> = { points: filter.min_points > 1 ? String(filter.min_points) : "", focus: filter.near_focus ? "" : "without" };
  for (const name of RANGES) values[name] = isOpen(filter[name]) ? "" : filter[name].map((end) => end ?? "").join("_");
  return values;
}

export function filterOf(values: Readonly<Record<string, string>>): Filter {
  const ends = (text: string | undefined): Ends => {
    const [from = "", to = ""] = (text ?? "").split("_");
    const end = (part: string): number | null => (part === "" || !Number.isFinite(Number(part)) ? null : Number(part));
    return [end(from), end(to)];
  };
  const [depth, speed, x, y, z] = RANGES.map((name) => ends(values[name])) as [Ends, Ends, Ends, Ends, Ends];
  return { min_points: Math.max(1, Math.floor(Number(values["points"])) || 1), depth, speed, x, y, z, near_focus: values["focus"] !== "without" };
}
