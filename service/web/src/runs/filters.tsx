// Which tracks of a run are shown: fields, and a box that is drawn on the picture.
import type { ComponentChild } from "preact";
import type { Region } from "../image/canvas";
import { choosing } from "../live/image_pane";
import { count } from "../parts/words";
import type { Volume } from "../scene/volume";
import { useStore } from "../state/store";
import { type Ends, type Filter, NO_FILTER, type RangeName } from "../tracks/filter";

interface Props {
  filter: Filter;
  set: (filter: Filter) => void;
  kept: number;
  all: number;
  pixelUm: number;
  /** There are pictures to draw on. */
  drawable: boolean;
}

const NAMES: Record<RangeName, string> = { depth: "Mean depth, µm", speed: "Speed, µm/s", x: "x, µm", y: "y, µm", z: "z, µm" };

export function Filters({ filter, set, kept, all, pixelUm, drawable }: Props): ComponentChild {
  const drawing = useStore(choosing, (value) => value !== null);
  const draw = (): void => {
    const edge = (pixel: number): number => +((pixel - 0.5) * pixelUm).toFixed(2);
    choosing.set(drawing ? null : ([left, top, wide, high]) => set({ ...filter, x: [edge(left), edge(left + wide)], y: [edge(top), edge(top + high)] }));
  };
  const range = (name: RangeName): ComponentChild => <Range key={name} name={NAMES[name]} value={filter[name]} set={(value) => set({ ...filter, [name]: value })} />;
  return (
    <details class="filters">
      <summary>Filters: {kept === all ? "all tracks" : `${count(kept)} of ${count(all)} tracks`}</summary>
      <p class="hint">They act on scene, table, plots and exports alike, and are part of the address.</p>
      <label class="check">Points, at least<input class="number" type="number" min="1" value={filter.min_points} onInput={(event) => set({ ...filter, min_points: Math.max(1, Number(event.currentTarget.value) || 1) })} /></label>
      {(["depth", "speed"] as const).map(range)}
      <p class="hint">Box: tracks with a point in it</p>
      {(["x", "y", "z"] as const).map(range)}
      <div class="row">
        <button type="button" class="small" disabled={!drawable} aria-pressed={drawing} title={drawable ? "Drag over the picture" : "The run has no recorded frames"} onClick={draw}>Draw the box on the image</button>
        <button type="button" class="small" onClick={() => set(NO_FILTER)}>No filter</button>
      </div>
      <label class="check"><input type="checkbox" checked={filter.near_focus} onInput={(event) => set({ ...filter, near_focus: event.currentTarget.checked })} /> with tracks within 3 µm of focus</label>
    </details>
  );
}

function Range({ name, value: [from, to], set }: { name: string; value: Ends; set: (value: Ends) => void }): ComponentChild {
  const read = (text: string): number | null => (text === "" ? null : Number(text));
  return (
    <fieldset class="range">
      <legend class="unseen">{name}</legend>
      <span aria-hidden="true">{name}</span>
      <input type="number" step="any" aria-label={`${name}, from`} placeholder="from" value={from ?? ""} onInput={(event) => set([read(event.currentTarget.value), to])} />
      <input type="number" step="any" aria-label={`${name}, to`} placeholder="to" value={to ?? ""} onInput={(event) => set([from, read(event.currentTarget.value)])} />
    </fieldset>
  );
}

/** The box of a filter within the volume; null where no side of it is closed. */
export function boxOf({ x, y, z }: Filter, volume: Volume): Volume | null {
  if ([x, y, z].every(([from, to]) => from === null && to === null)) return null;
  const side = ([from, to]: Ends, [low, high]: readonly [number, number]): readonly [number, number] => [Math.max(low, from ?? low), Math.min(high, to ?? high)];
  return { x: side(x, volume.x), y: side(y, volume.y), z: side(z, volume.z) };
}

/** The part of the picture that a box covers, pixels; the centre of the top-left pixel is at (0, 0) µm. */
export function regionOf(box: Volume | null, pixelUm: number): Region | null {
  if (!box) return null;
  const [left, right, top, bottom] = [...box.x, ...box.y].map((um) => um / pixelUm + 0.5) as [number, number, number, number];
  return [left, top, right - left, bottom - top];
}
