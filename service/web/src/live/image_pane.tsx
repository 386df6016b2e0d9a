// The camera picture: contrast, scale, rings of its own frame, and choosing a region by dragging.
import type { ComponentChild } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ground } from "../app/theme";
import { ImageCanvas, type Region } from "../image/canvas";
import { automatic, type Contrast, histogram, saturated } from "../image/contrast";
import { ScaleBar } from "../parts/scale_bar";
import { count } from "../parts/words";
import type { Volume } from "../scene/volume";
import type { Shown } from "../state/app";
import { Store, useStore } from "../state/store";
import { NEAR_FRAMES } from "../tracks/history";
import { hover, pick, selection } from "../tracks/selection";
import { rowOf } from "../tracks/snapshot";
import { colouringOf, look, Scales } from "./look";

/** The user draws a region on the picture; what is done with it. */
export const choosing = new Store<((region: Region) => void) | null>(null);

interface Props {
  shown: Store<Shown>;
  volume: Volume;
  pixelUm: number;
  frame_s: number;
  bitDepth: number | null;
  /** A region that is marked on the picture. */
  box?: Region | null;
  /** Said while there is no picture. */
  empty: ComponentChild;
  /** Further buttons of the head. */
  children?: ComponentChild;
}

export function ImagePane({ shown, volume, pixelUm, frame_s, bitDepth, box = null, empty, children }: Props): ComponentChild {
  const canvas = useRef<HTMLCanvasElement>(null);
  const image = useRef<ImageCanvas | null>(null);
  const facts = useRef({ volume, pixelUm, frame_s, box });
  facts.current = { volume, pixelUm, frame_s, box };
  const locked = useRef<Contrast | null>(null);
  const [, redraw] = useState(0);
  const picture = useStore(shown, ({ moment }) => moment.picture);
  const apart = useStore(shown, ({ moment }) => (moment.apart === null || Math.abs(moment.apart) <= NEAR_FRAMES ? 0 : moment.apart));
  const behind = useStore(shown, ({ moment }) => Math.round(1000 * Math.abs(moment.behind_s)));
  const current = useStore(shown, (value) => value.current);
  const active = useStore(choosing, (value) => value !== null);
  useEffect(() => {
    const scales = new Scales();
    const view = (image.current = new ImageCanvas(canvas.current!, {
      picked: pick,
      hovered: hover,
      region: (region) => {
        choosing.get()?.(region);
        choosing.set(null);
      },
      moved: () => redraw((number) => number + 1),
    }));
    const draw = (): void => {
      const { moment, current } = shown.get();
      const now = facts.current;
      const { followed } = selection.get();
      if (followed !== null) {
        const row = rowOf(moment.tracks, followed);
        if (row >= 0) view.follow(moment.tracks.x[row]! / now.pixelUm, moment.tracks.y[row]! / now.pixelUm);
      }
      view.update({
        moment,
        colouring: colouringOf(look.get(), scales, now.volume, moment.tracks, now.frame_s, "dark"),
        selection: selection.get(),
        contrast: locked.current ?? (moment.picture ? automatic(moment.picture) : { black: 0, white: 1 }),
        pixelUm: now.pixelUm,
        current,
        rings: look.get().rings,
        box: now.box,
        apart: moment.apart === null || Math.abs(moment.apart) > NEAR_FRAMES,
      });
    };
    const ends = [shown, selection, look, ground].map((store) => (store as Store<unknown>).listen(draw));
    draw();
    return () => {
      ends.forEach((end) => end());
      view.end();
      choosing.set(null);
    };
  }, [shown]);
  useEffect(() => {
    image.current!.choosing = active;
    const escape = (event: KeyboardEvent): void => {
      if (event.key === "Escape") choosing.set(null);
    };
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  }, [active]);
  useEffect(() => shown.set({ ...shown.get() }), [box?.join()]);
  const lock = (contrast: Contrast | null): void => {
    locked.current = contrast;
    redraw((number) => number + 1);
    shown.set({ ...shown.get() });
  };
  return (
    <section class="pane image" aria-label="Camera" data-pane="image">
      <div class="pane-head">
        <h2>Camera</h2>
        <span class="aside">{picture ? `frame ${count(picture.frame)}` : ""}{picture && !current ? ", old" : ""}</span>
        <span class={apart ? "aside warn" : "aside"} id="rings">
          {picture && apart !== 0 ? `! rings ${Math.abs(apart)} frames (${behind} ms) ${apart > 0 ? "behind" : "ahead"}` : ""}
        </span>
        <span class="gap" />
        {children}
        <label class="check"><input type="checkbox" checked={look.get().rings} onInput={(event) => look.change((now) => ({ ...now, rings: event.currentTarget.checked }))} /> rings</label>
        <button type="button" class="small" onClick={() => { selection.change((now) => ({ ...now, followed: null })); image.current?.fit(); redraw((number) => number + 1); }}>Fit</button>
      </div>
      <div class={active ? "picture choosing" : "picture"}>
        <canvas ref={canvas} id="preview" tabIndex={0} role="img" aria-label="Camera picture with a ring around each track. Plus and minus zoom, arrow keys move it, 0 fits it." />
        {picture ? <ScaleBar umPerPx={pixelUm / (image.current?.scale ?? 1)} /> : <div class="placeholder">{empty}</div>}
        {active ? <p class="hint over">Drag a region. Esc leaves it.</p> : null}
      </div>
      {picture ? <Histogram picture={picture} bitDepth={bitDepth} locked={locked.current} lock={lock} /> : null}
    </section>
  );
}

interface HistogramProps {
  picture: NonNullable<Shown["moment"]["picture"]>;
  bitDepth: number | null;
  locked: Contrast | null;
  lock: (contrast: Contrast | null) => void;
}

function Histogram({ picture, bitDepth, locked, lock }: HistogramProps): ComponentChild {
  const canvas = useRef<HTMLCanvasElement>(null);
  const span = useRef<{ low: number; high: number }>({ low: picture.low_adu, high: picture.high_adu });
  const shown = locked ?? automatic(picture);
  // The axis of a locked contrast stays, so that changes of the light are seen.
  if (!locked) span.current = { low: picture.low_adu, high: picture.high_adu };
  const { low, high } = span.current;
  const margin = (high - low) * 0.15;
  const axis = [Math.max(0, Math.floor(low - margin)), Math.ceil(high + margin)] as const;
  useEffect(() => {
    const context = canvas.current!.getContext("2d")!;
    const { width, height } = canvas.current!;
    const style = getComputedStyle(canvas.current!);
    context.clearRect(0, 0, width, height);
    const { low_adu, bin_adu, pixels } = histogram(picture);
    let most = 1;
    for (let bin = 0; bin < pixels.length; bin++) most = Math.max(most, pixels[bin]!);
    const perAdu = width / (axis[1] - axis[0]);
    context.fillStyle = style.color;
    for (let bin = 0; bin < pixels.length; bin++) {
      const tall = (Math.log1p(pixels[bin]!) / Math.log1p(most)) * height;
      context.fillRect((low_adu + bin * bin_adu - axis[0]) * perAdu, height - tall, Math.max(1, bin_adu * perAdu + 0.5), tall);
    }
  }, [picture]);
  const full = saturated(picture, bitDepth);
  const handle = (which: "black" | "white") => (
    <input
      type="range" class={which} min={axis[0]} max={axis[1]} step="any" value={shown[which]}
      aria-label={`Counts shown as ${which}`} aria-valuetext={`${Math.round(shown[which])} ADU`}
      onInput={(event) => {
        const value = Number(event.currentTarget.value);
        lock(which === "black" ? { ...shown, black: Math.min(value, shown.white - 1) } : { ...shown, white: Math.max(value, shown.black + 1) });
      }}
    />
  );
  return (
    <div class="histogram">
      <div class="strip">
        <canvas ref={canvas} width={256} height={30} aria-hidden="true" />
        {handle("black")}
        {handle("white")}
      </div>
      <span class="aside figures">{Math.round(shown.black)} to {Math.round(shown.white)} ADU</span>
      <button type="button" class="small" aria-pressed={locked !== null} onClick={() => lock(locked ? null : shown)}>{locked ? "Locked" : "Auto"}</button>
      {full ? <span class="aside warn">! {count(full)} saturated</span> : null}
    </div>
  );
}
