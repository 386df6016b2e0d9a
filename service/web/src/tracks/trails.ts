// The path of every track over the last minute, at most thirty places a second.
import type { Numbers, Snapshot } from "./snapshot";

const KEPT_S = 60;
const STEP_S = 1 / 30;
const FIRST_ROOM = 64;
const MOST_ROOM = 4096;

/** Times and places of one track, in order of time; from `from` up to (not with) `to`. */
export interface Path {
  t: Numbers;
  x: Numbers;
  y: Numbers;
  z: Numbers;
  from: number;
  to: number;
}

export interface Trails {
  path(id: number): Path | null;
}

class Trail implements Path {
  t = new Float64Array(FIRST_ROOM);
  x = new Float32Array(FIRST_ROOM);
  y = new Float32Array(FIRST_ROOM);
  z = new Float32Array(FIRST_ROOM);
  from = 0;
  to = 0;

  push(t: number, x: number, y: number, z: number): void {
    if (this.to > this.from && t - this.t[this.to - 1]! < STEP_S) return;
    while (this.from < this.to && this.t[this.from]! < t - KEPT_S) this.from++;
    if (this.to === this.t.length) this.makeRoom();
    this.t[this.to] = t;
    this.x[this.to] = x;
    this.y[this.to] = y;
    this.z[this.to] = z;
    this.to++;
  }

  private makeRoom(): void {
    const length = this.to - this.from;
    const room = Math.min(MOST_ROOM, length * 2 > this.t.length ? this.t.length * 2 : this.t.length);
    const first = length >= room ? this.to - room / 2 : this.from;
    const moved = <Kind extends Float32Array | Float64Array>(old: Kind, fresh: Kind): Kind => {
      fresh.set(old.subarray(first, this.to));
      return fresh;
    };
    this.t = moved(this.t, new Float64Array(room));
    this.x = moved(this.x, new Float32Array(room));
    this.y = moved(this.y, new Float32Array(room));
    this.z = moved(this.z, new Float32Array(room));
    this.to -= first;
    this.from = 0;
  }
}

export class LiveTrails implements Trails {
  private readonly trails = new Map<number, Trail>();
  private readonly seen = new Map<number, number>();

  add(snapshot: Snapshot): void {
    for (let row = 0; row < snapshot.count; row++) {
      const id = snapshot.id[row]!;
      let trail = this.trails.get(id);
      if (!trail) this.trails.set(id, (trail = new Trail()));
      trail.push(snapshot.t_s, snapshot.x[row]!, snapshot.y[row]!, snapshot.z[row]!);
      this.seen.set(id, snapshot.t_s);
    }
    // Ended tracks are kept as long as the timeline reaches back.
    for (const [id, at] of this.seen) {
      if (at < snapshot.t_s - KEPT_S) {
        this.seen.delete(id);
        this.trails.delete(id);
      }
    }
  }

  path(id: number): Path | null {
    return this.trails.get(id) ?? null;
  }

  clear(): void {
    this.trails.clear();
    this.seen.clear();
  }
}

/** The part of a path from `from_s` to `to_s`: its first and last index plus one. */
export function part(path: Path, from_s: number, to_s: number): [number, number] {
  return [lower(path, from_s), lower(path, to_s + 1e-6)];
}

function lower({ t, from, to }: Path, at: number): number {
  let [low, high] = [from, to];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (t[middle]! < at) low = middle + 1;
    else high = middle;
  }
  return low;
}
