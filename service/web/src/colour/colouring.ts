// What the colour of a track tells: depth, speed, age, or which track it is.
import { type Snapshot, speedOf } from "../tracks/snapshot";
import { type Ground, rampColour } from "./depth";

export type ColourBy = "depth" | "speed" | "age" | "track";

export interface Colouring {
  by: ColourBy;
  ground: Ground;
  /** Values at both ends of the scale: µm, µm/s or s. */
  range: readonly [number, number];
  /** A part of the scale that is meant; other tracks are dimmed. */
  only: readonly [number, number] | null;
  frame_s: number;
}

/** Distinct in hue and, in turns, in lightness. */
const HUES = 0.381966;

export function valueOf({ by, frame_s }: Colouring, tracks: Snapshot, row: number): number {
  if (by === "depth") return tracks.z[row]!;
  if (by === "speed") return speedOf(tracks, row);
  return by === "age" ? tracks.age[row]! * frame_s : tracks.id[row]!;
}

export function colourAt(colouring: Colouring, value: number): [number, number, number] {
  if (colouring.by === "track") return trackColour(value, colouring.ground);
  const [low, high] = colouring.range;
  return rampColour((value - low) / (high - low || 1), colouring.ground);
}

export function isDimmed({ only }: Colouring, value: number): boolean {
  return only !== null && (value < only[0] || value > only[1]);
}

function trackColour(id: number, ground: Ground): [number, number, number] {
  const hue = ((id * HUES) % 1) * 6;
  const light = (ground === "dark" ? 0.68 : 0.34) + (id % 3) * 0.07;
  const reach = 0.62 * Math.min(light, 1 - light);
  return [0, 8, 4].map((shift) => {
    const k = (shift + hue * 2) % 12;
    return light - reach * Math.max(-1, Math.min(k - 3, 9 - k, 1));
  }) as [number, number, number];
}
