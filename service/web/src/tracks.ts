// All live tracks of the newest message, and the earlier positions of each.
import { column, type Message } from "./stream";

/** Number of earlier positions of a track, one per STEP_S: two seconds, independent of the message rate. */
export const TRAIL = 60;
const STEP_S = 1 / 30;

const COASTING = 1;
const NEAR_FOCUS = 2;

/** The last positions of one track, in a ring buffer. */
export class Trail {
  readonly xyz = new Float32Array(TRAIL * 3);
  length = 0;
  private next = 0;

  /** Add a position. It replaces the newest one when that one is too recent. */
  push(x: number, y: number, z: number, step: boolean): void {
    if (step || this.length === 0) {
      this.next = (this.next + 1) % TRAIL;
      this.length = Math.min(this.length + 1, TRAIL);
    }
    this.xyz.set([x, y, z], this.at(0));
  }

  /** Offset in `xyz` of the position `back` steps ago; 0 is the newest. */
  at(back: number): number {
    return ((this.next - 1 - back + 2 * TRAIL) % TRAIL) * 3;
  }
}

/** The state of all tracks; every message replaces it. */
export class Tracks {
  count = 0;
  id: ArrayLike<number> = [];
  x: ArrayLike<number> = [];
  y: ArrayLike<number> = [];
  z: ArrayLike<number> = [];
  flags: ArrayLike<number> = [];
  readonly trails = new Map<number, Trail>();
  private steppedAt = -Infinity;

  coasting(row: number): boolean {
    return ((this.flags[row] ?? 0) & COASTING) !== 0;
  }

  nearFocus(row: number): boolean {
    return ((this.flags[row] ?? 0) & NEAR_FOCUS) !== 0;
  }

  update(message: Message): void {
    this.count = message.header.rows;
    this.id = column(message, "track_id");
    this.x = column(message, "x_um");
    this.y = column(message, "y_um");
    this.z = column(message, "z_um");
    this.flags = column(message, "flags");
    const now = message.header.t_s ?? message.header.captured_s;
    const step = Math.abs(now - this.steppedAt) >= STEP_S;
    if (step) this.steppedAt = now;
    const live = new Set<number>();
    for (let row = 0; row < this.count; row++) {
      const id = this.id[row]!;
      live.add(id);
      let trail = this.trails.get(id);
      if (!trail) this.trails.set(id, (trail = new Trail()));
      trail.push(this.x[row]!, this.y[row]!, this.z[row]!, step);
    }
    for (const id of this.trails.keys()) if (!live.has(id)) this.trails.delete(id);
  }

  clear(): void {
    this.count = 0;
    this.trails.clear();
  }
}
