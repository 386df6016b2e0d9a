// The time of a run that is shown: it plays, steps and scrubs, and fetches the recorded frame of that time.
import type { Api, Run } from "../api/client";
import type { Shown } from "../state/app";
import { Store } from "../state/store";
import { EMPTY_MOMENT, type Picture } from "../tracks/history";
import type { Recorded } from "../tracks/recorded";

export const SPEEDS = [0.1, 0.2, 0.5, 1, 2, 5, 10] as const;

export interface Playing {
  t_s: number;
  on: boolean;
  speed: number;
}

export class Replay {
  readonly shown: Store<Shown>;
  readonly playing = new Store<Playing>({ t_s: 0, on: false, speed: 1 });
  private picture: Picture | null = null;
  private missing = new Set<number>();
  private fetching = false;
  private ended = false;
  private last = 0;

  constructor(
    private readonly api: Api,
    private readonly run: Run,
    private recorded: Recorded,
    private readonly frame_s: number,
  ) {
    this.shown = new Store<Shown>({ moment: EMPTY_MOMENT, trails: recorded, current: true });
  }

  setTracks(recorded: Recorded): void {
    this.recorded = recorded;
    this.renew();
  }

  seek(t_s: number): void {
    const { begin_s, end_s } = this.recorded;
    this.playing.change((now) => ({ ...now, t_s: Math.min(end_s, Math.max(begin_s, t_s)) }));
    this.renew();
  }

  step(frames: number): void {
    this.playing.change((now) => ({ ...now, on: false }));
    this.seek(this.playing.get().t_s + frames * this.frame_s);
  }

  setSpeed(speed: number): void {
    this.playing.change((now) => ({ ...now, speed }));
  }

  toggle(): void {
    const { on, t_s } = this.playing.get();
    if (!on && t_s >= this.recorded.end_s - this.frame_s) this.seek(this.recorded.begin_s);
    this.playing.change((now) => ({ ...now, on: !on }));
    if (on) return;
    this.last = performance.now();
    requestAnimationFrame(() => this.advance());
  }

  end(): void {
    this.ended = true;
    this.playing.change((now) => ({ ...now, on: false }));
  }

  private advance(): void {
    const { on, speed, t_s } = this.playing.get();
    if (!on || this.ended) return;
    const now = performance.now();
    this.seek(t_s + ((now - this.last) / 1000) * speed);
    this.last = now;
    if (this.playing.get().t_s >= this.recorded.end_s) this.playing.change((value) => ({ ...value, on: false }));
    else requestAnimationFrame(() => this.advance());
  }

  private renew(): void {
    const { t_s } = this.playing.get();
    const tracks = this.recorded.at(t_s);
    const frame = Math.round(t_s / this.frame_s);
    if (this.run.recording) this.fetch(frame);
    const apart = this.picture === null ? null : this.picture.frame - frame;
    this.shown.set({ moment: { picture: this.picture, tracks, apart, behind_s: (apart ?? 0) * this.frame_s }, trails: this.recorded, current: true });
  }

  /** Fetch a frame; when it has come, the one of the time that is shown then is fetched. */
  private fetch(frame: number): void {
    if (this.fetching || this.missing.has(frame) || this.picture?.frame === frame) return;
    this.fetching = true;
    this.read(frame)
      .then((picture) => {
        this.picture = picture;
      })
      .catch(() => this.missing.add(frame))
      .finally(() => {
        this.fetching = false;
        if (!this.ended) this.renew();
      });
  }

  private async read(frame: number): Promise<Picture> {
    const { content, low, high } = await this.api.frameWithContrast(this.run.id, frame);
    const bitmap = await createImageBitmap(content);
    const { width, height } = bitmap;
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true })!;
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    const { data } = context.getImageData(0, 0, width, height);
    const grey = new Uint8Array(width * height);
    for (let i = 0; i < grey.length; i++) grey[i] = data[i * 4]!;
    return { frame, captured_s: 0, width, height, scale: 1, low_adu: low, high_adu: high, saturated: null, histogram: null, grey, came: performance.now() };
  }
}
