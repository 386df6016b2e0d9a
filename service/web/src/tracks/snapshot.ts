// All tracks after one frame, as columns.
import { column, type Message } from "../api/wire";

const COASTING = 1;
const NEAR_FOCUS = 2;

export type Numbers = ArrayLike<number>;

export interface Snapshot {
  frame: number;
  t_s: number;
  /** Unix time of mid-exposure, s; 0 in a replay. */
  captured_s: number;
  count: number;
  id: Numbers;
  x: Numbers;
  y: Numbers;
  z: Numbers;
  vx: Numbers;
  vy: Numbers;
  vz: Numbers;
  sx: Numbers;
  sy: Numbers;
  sz: Numbers;
  age: Numbers;
  flags: Numbers;
  bytes: number;
}

export const NOTHING: Snapshot = {
  frame: -1, t_s: 0, captured_s: 0, count: 0, id: [], x: [], y: [], z: [], vx: [], vy: [], vz: [], sx: [], sy: [], sz: [], age: [], flags: [], bytes: 0,
}; // prettier-ignore

export function snapshotOf(message: Message, bytes: number): Snapshot {
  const { header } = message;
  const read = (name: string): Numbers => column(message, name);
  return {
    frame: header.frame ?? 0,
    t_s: header.t_s ?? header.captured_s,
    captured_s: header.captured_s,
    count: header.rows,
    id: read("track_id"),
    x: read("x_um"), y: read("y_um"), z: read("z_um"),
    vx: read("vx_um_s"), vy: read("vy_um_s"), vz: read("vz_um_s"),
    sx: read("sigma_x_um"), sy: read("sigma_y_um"), sz: read("sigma_z_um"),
    age: read("age"),
    flags: read("flags"),
    bytes,
  }; // prettier-ignore
}

export function isCoasting(snapshot: Snapshot, row: number): boolean {
  return ((snapshot.flags[row] ?? 0) & COASTING) !== 0;
}

export function isNearFocus(snapshot: Snapshot, row: number): boolean {
  return ((snapshot.flags[row] ?? 0) & NEAR_FOCUS) !== 0;
}

export function rowOf(snapshot: Snapshot, id: number): number {
  for (let row = 0; row < snapshot.count; row++) if (snapshot.id[row] === id) return row;
  return -1;
}

export function speedOf(snapshot: Snapshot, row: number): number {
  return Math.hypot(snapshot.vx[row]!, snapshot.vy[row]!, snapshot.vz[row]!);
}

/** Make the flags of a snapshot from what a table says. */
export function flagsOf(observed: boolean, nearFocus: boolean): number {
  return (observed ? 0 : COASTING) | (nearFocus ? NEAR_FOCUS : 0);
}
