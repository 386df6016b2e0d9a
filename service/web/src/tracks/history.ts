// The last minute: track messages and camera pictures in order of frames, within limits of time and memory. From it
// comes the moment that is shown: a picture and the tracks of the same frame, or a statement of how far they differ.
import { LiveTrails } from "./trails";
import { NOTHING, type Snapshot } from "./snapshot";

const KEPT_S = 60;
/** The rings of a picture are of its frame, or of one beside it. */
export const NEAR_FRAMES = 1;
/** Longest wait of a picture for the tracks of its frame. */
const PATIENCE_MS = 1500;

export interface Picture {
  frame: number;
  captured_s: number;
  width: number;
  height: number;
  /** Frame pixels per picture pixel. */
  scale: number;
  low_adu: number;
  high_adu: number;
  saturated: number | null;
  /** Pixels of the frame by count, where the service sends them. */
  histogram: { low_adu: number; bin_adu: number; pixels: ArrayLike<number> } | null;
  grey: Uint8Array;
  /** When it came, ms of this page's clock. */
  came: number;
}

export interface Moment {
  picture: Picture | null;
  tracks: Snapshot;
  /** Frames between the picture and the tracks; null without one of them. */
  apart: number | null;
  /** The tracks are so much older (positive) or newer than the picture, s. */
  behind_s: number;
}

export const EMPTY_MOMENT: Moment = { picture: null, tracks: NOTHING, apart: null, behind_s: 0 };

class Recent<Item extends { captured_s: number }> {
  items: Item[] = [];
  private bytes = 0;

  constructor(
    private readonly room: number,
    private readonly size: (item: Item) => number,
  ) {}

  add(item: Item): void {
    this.items.push(item);
    this.bytes += this.size(item);
    let gone = 0;
    const begin = item.captured_s - KEPT_S;
    while (gone < this.items.length - 2 && (this.items[gone]!.captured_s < begin || this.bytes > this.room)) {
      this.bytes -= this.size(this.items[gone++]!);
    }
    if (gone) this.items.splice(0, gone);
  }

  clear(): void {
    this.items = [];
    this.bytes = 0;
  }
}

export class History {
  readonly trails = new LiveTrails();
  private readonly tracks = new Recent<Snapshot>(48e6, ({ bytes }) => bytes);
  private readonly pictures = new Recent<Picture>(64e6, ({ grey }) => grey.length);

  addTracks(snapshot: Snapshot): void {
    this.tracks.add(snapshot);
    this.trails.add(snapshot);
  }

  addPicture(picture: Picture): void {
    this.pictures.add(picture);
  }

  clearTracks(): void {
    this.tracks.clear();
    this.trails.clear();
  }

  clear(): void {
    this.clearTracks();
    this.pictures.clear();
  }

  get newest(): Snapshot {
    return this.tracks.items.at(-1) ?? NOTHING;
  }

  get snapshots(): readonly Snapshot[] {
    return this.tracks.items;
  }

  /** Times that the timeline covers, s of the run; null while there is nothing. */
  get span(): [number, number] | null {
    const [first, last] = [this.tracks.items[0], this.tracks.items.at(-1)];
    return first && last ? [first.t_s, last.t_s] : null;
  }

  /** The newest picture whose tracks have come, with them; a picture waits for its tracks a while. */
  live(now: number): Moment {
    const pictures = this.pictures.items;
    const newest = this.newest;
    for (let place = pictures.length - 1; place >= 0 && place > pictures.length - 40; place--) {
      const picture = pictures[place]!;
      if (newest.frame >= picture.frame) return pair(picture, this.nearest(picture.frame));
      if (now - picture.came > PATIENCE_MS) break;
    }
    const last = pictures.at(-1) ?? null;
    return last ? pair(last, newest) : { ...EMPTY_MOMENT, tracks: newest };
  }

  /** What was there at a time of the run. */
  at(t_s: number): Moment {
    const items = this.tracks.items;
    if (!items.length) return EMPTY_MOMENT;
    let best = items[0]!;
    for (const item of items) if (Math.abs(item.t_s - t_s) < Math.abs(best.t_s - t_s)) best = item;
    let picture: Picture | null = null;
    for (const item of this.pictures.items) {
      if (picture === null || Math.abs(item.frame - best.frame) < Math.abs(picture.frame - best.frame)) picture = item;
    }
    return picture ? pair(picture, best) : { ...EMPTY_MOMENT, tracks: best };
  }

  private nearest(frame: number): Snapshot {
    let best = this.newest;
    for (let place = this.tracks.items.length - 1; place >= 0; place--) {
      const item = this.tracks.items[place]!;
      if (Math.abs(item.frame - frame) < Math.abs(best.frame - frame)) best = item;
      if (item.frame < frame) break;
    }
    return best;
  }
}

function pair(picture: Picture, tracks: Snapshot): Moment {
  if (tracks.frame < 0) return { picture, tracks, apart: null, behind_s: 0 };
  return { picture, tracks, apart: picture.frame - tracks.frame, behind_s: picture.captured_s - tracks.captured_s };
}
