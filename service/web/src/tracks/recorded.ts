// The tracks of a run as columns, with what was there at any time of it.
import type { TrackItem } from "../api/client";
import { flagsOf, type Snapshot } from "./snapshot";
import { part, type Path, type Trails } from "./trails";

export const NEAR_FOCUS_UM = 3;
/** A track without a point for so long is not there. */
const GAP_S = 0.5;
const SLOT_S = 1;
const PLACES = 400;

export interface Track extends Path {
  id: number;
  points: number;
  frame: readonly number[];
  vx: readonly number[];
  vy: readonly number[];
  vz: readonly number[];
  sx: readonly number[];
  sy: readonly number[];
  sz: readonly number[];
  observed: readonly number[];
  /** Path length over duration, µm/s. */
  speed: number;
  mean_z: number;
  shallowest: number;
  deepest: number;
}

export function trackOf(item: TrackItem): Track {
  const numbers = (name: string): number[] => ((item as unknown as Record<string, (number | null)[]>)[name] ?? []).map((value) => value ?? NaN);
  const [t, x, y, z] = ["t_s", "x_um", "y_um", "z_um"].map(numbers) as [number[], number[], number[], number[]];
  let length = 0;
  for (let at = 1; at < t.length; at++) length += Math.hypot(x[at]! - x[at - 1]!, y[at]! - y[at - 1]!, z[at]! - z[at - 1]!);
  const duration = (t.at(-1) ?? 0) - (t[0] ?? 0);
  return {
    id: item.id, points: item.points, from: 0, to: t.length, t, x, y, z, frame: numbers("frame"),
    vx: numbers("vx_um_s"), vy: numbers("vy_um_s"), vz: numbers("vz_um_s"), sx: numbers("sigma_x_um"), sy: numbers("sigma_y_um"), sz: numbers("sigma_z_um"),
    observed: numbers("observed"), speed: duration > 0 ? length / duration : 0, mean_z: z.reduce((sum, value) => sum + value, 0) / Math.max(1, z.length),
    shallowest: z.reduce((least, value) => Math.min(least, value), Infinity), deepest: z.reduce((most, value) => Math.max(most, value), -Infinity),
  }; // prettier-ignore
}

export class Recorded implements Trails {
  readonly begin_s: number;
  readonly end_s: number;
  private readonly byId = new Map<number, Track>();
  /** Tracks that touch each second. */
  private readonly slots: Track[][] = [];

  constructor(readonly tracks: readonly Track[]) {
    this.begin_s = tracks.reduce((least, { t, from }) => Math.min(least, t[from]!), Infinity);
    this.end_s = tracks.reduce((most, { t, to }) => Math.max(most, t[to - 1]!), 0);
    if (!Number.isFinite(this.begin_s)) this.begin_s = 0;
    for (const track of tracks) {
      this.byId.set(track.id, track);
      for (let slot = this.slot(track.t[0]!); slot <= this.slot(track.t[track.to - 1]!); slot++) (this.slots[slot] ??= []).push(track);
    }
  }

  path(id: number): Track | null {
    return this.byId.get(id) ?? null;
  }

  /** Tracks at each of `count` times from begin to end. */
  density(count: number): number[] {
    const found = new Array<number>(count).fill(0);
    const step = (this.end_s - this.begin_s) / count || 1;
    for (const { t, to } of this.tracks) {
      const [first, last] = [t[0]!, t[to - 1]!].map((at) => Math.min(count - 1, Math.floor((at - this.begin_s) / step))) as [number, number];
      for (let slot = first; slot <= last; slot++) found[slot]!++;
    }
    return found;
  }

  /** A time to begin with: the middle of the run, or where that has no tracks, a time with many. */
  get first_s(): number {
    const middle = (this.begin_s + this.end_s) / 2;
    if (this.at(middle).count > 0) return middle;
    const found = this.density(PLACES);
    const most = found.reduce((best, value, place) => (value > found[best]! ? place : best), 0);
    const busiest = this.begin_s + ((most + 0.5) * (this.end_s - this.begin_s)) / PLACES;
    // A track may have a gap there; it surely is where it begins.
    return this.at(busiest).count > 0 ? busiest : (this.tracks[0]?.t[0] ?? middle);
  }

  at(t_s: number): Snapshot {
    const rows: [Track, number][] = [];
    for (const track of this.slots[this.slot(t_s)] ?? []) {
      const [, next] = part(track, t_s, t_s);
      const at = next - 1;
      if (at < 0 || t_s - track.t[at]! > GAP_S || (next === track.to && t_s - track.t[at]! > GAP_S / 5)) continue;
      rows.push([track, at]);
    }
    const column = (read: (track: Track, at: number) => number): Float32Array => Float32Array.from(rows, ([track, at]) => read(track, at));
    return {
      frame: rows.reduce((most, [track, at]) => Math.max(most, track.frame[at]!), -1),
      t_s, captured_s: 0, count: rows.length, bytes: 0,
      id: Uint32Array.from(rows, ([track]) => track.id),
      x: column((track, at) => track.x[at]!), y: column((track, at) => track.y[at]!), z: column((track, at) => track.z[at]!),
      vx: column((track, at) => track.vx[at]!), vy: column((track, at) => track.vy[at]!), vz: column((track, at) => track.vz[at]!),
      sx: column((track, at) => track.sx[at]!), sy: column((track, at) => track.sy[at]!), sz: column((track, at) => track.sz[at]!),
      age: column((_, at) => at),
      flags: Uint32Array.from(rows, ([track, at]) => flagsOf(track.observed[at] !== 0, Math.abs(track.z[at]!) < NEAR_FOCUS_UM)),
    }; // prettier-ignore
  }

  private slot(t_s: number): number {
    return Math.max(0, Math.floor((t_s - this.begin_s) / SLOT_S));
  }
}

/** Mean squared displacement of a track at lags of 1, 2, 4, ... of its steps: lag in s, value in µm². */
export function meanSquared({ t, x, y, z, to }: Track): { lag: number[]; msd: number[] } {
  const found = { lag: [] as number[], msd: [] as number[] };
  const step = to > 1 ? (t[to - 1]! - t[0]!) / (to - 1) : 0;
  for (let lag = 1; lag <= to / 4; lag *= 2) {
    let sum = 0;
    for (let at = 0; at + lag < to; at++) sum += (x[at + lag]! - x[at]!) ** 2 + (y[at + lag]! - y[at]!) ** 2 + (z[at + lag]! - z[at]!) ** 2;
    found.lag.push(lag * step);
    found.msd.push(sum / (to - lag));
  }
  return found;
}

/** Straight line through the logarithms of both: value = factor · lag^exponent; null with fewer than three lags. */
export function powerLaw({ lag, msd }: { lag: readonly number[]; msd: readonly number[] }): { factor: number; exponent: number } | null {
  const points = lag.map((value, i) => [Math.log(value), Math.log(msd[i]!)] as const).filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b));
  if (points.length < 3) return null;
  const mean = (place: 0 | 1): number => points.reduce((sum, point) => sum + point[place], 0) / points.length;
  const [mx, my] = [mean(0), mean(1)];
  const exponent = points.reduce((sum, [a, b]) => sum + (a - mx) * (b - my), 0) / points.reduce((sum, [a]) => sum + (a - mx) ** 2, 0);
  return { exponent, factor: Math.exp(my - exponent * mx) };
}
