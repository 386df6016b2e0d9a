// How tracks are shown, in the live view and in runs alike.
import type { ColourBy, Colouring } from "../colour/colouring";
import type { Ground } from "../colour/depth";
import type { SceneOptions } from "../scene/scene";
import type { Volume } from "../scene/volume";
import { Store } from "../state/store";
import type { Snapshot } from "../tracks/snapshot";
import { speedOf } from "../tracks/snapshot";

export interface Look extends SceneOptions {
  by: ColourBy;
  rings: boolean;
  only: readonly [number, number] | null;
}

export const look = new Store<Look>({ by: "depth", trail_s: 2, stretch: 0, perspective: false, rings: true, only: null });

/** Ends of the scale of colours for depth, speed and age. The ends of speed and age grow in round steps. */
export class Scales {
  private speed = 5;
  private age = 2;

  of(by: ColourBy, volume: Volume, tracks: Snapshot, frame_s: number): readonly [number, number] {
    if (by === "depth") return volume.z;
    if (by === "track") return [0, 1];
    let most = 0;
    for (let row = 0; row < tracks.count; row++) most = Math.max(most, by === "speed" ? speedOf(tracks, row) : tracks.age[row]! * frame_s);
    const before = by === "speed" ? this.speed : this.age;
    const now = most > before || most < before / 4 ? roundUp(most) : before;
    if (by === "speed") this.speed = now;
    else this.age = now;
    return [0, now];
  }
}

function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 0.1)));
  return ([1, 2, 5, 10].find((factor) => factor * power >= value) ?? 10) * power;
}

export function colouringOf({ by, only }: Look, scales: Scales, volume: Volume, tracks: Snapshot, frame_s: number, ground: Ground): Colouring {
  return { by, ground, range: scales.of(by, volume, tracks, frame_s), only: by === "track" ? null : only, frame_s };
}
