// The numbers: a table of all live tracks, and a card for each selected one.
import type { ComponentChild } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { ground } from "../app/theme";
import { colourAt, valueOf } from "../colour/colouring";
import { css } from "../colour/depth";
import { Sparkline } from "../parts/sparkline";
import { figure, save, withSigma } from "../parts/words";
import type { Volume } from "../scene/volume";
import type { Shown } from "../state/app";
import { type Store, useStore } from "../state/store";
import { hover, MOST_SELECTED, NONE, pick, selection, without } from "../tracks/selection";
import { isCoasting, isNearFocus, rowOf, type Snapshot, speedOf } from "../tracks/snapshot";
import { part, type Path, type Trails } from "../tracks/trails";
import { colouringOf, look, Scales } from "./look";

const EVERY_MS = 250;
const SPARK_S = 10;
const MOST_ROWS = 200;

const COLUMNS = {
  id: { words: "track", value: (t: Snapshot, row: number) => t.id[row]! },
  age: { words: "age s", value: (t: Snapshot, row: number) => t.age[row]! },
  x: { words: "x µm", value: (t: Snapshot, row: number) => t.x[row]! },
  y: { words: "y µm", value: (t: Snapshot, row: number) => t.y[row]! },
  z: { words: "z ± σ µm", value: (t: Snapshot, row: number) => t.z[row]! },
  speed: { words: "µm/s", value: speedOf },
} as const;
type ColumnName = keyof typeof COLUMNS;

interface Props {
  shown: Store<Shown>;
  volume: Volume;
  frame_s: number;
  /** Said while there are no tracks. */
  empty: string;
}

export function Inspector({ shown, volume, frame_s, empty }: Props): ComponentChild {
  const { moment, trails } = useSlow(shown);
  const chosen = useStore(selection, (value) => value);
  const { tracks } = moment;
  return (
    <section class="inspector" aria-label="Numbers" data-pane="numbers">
      {chosen.ids.length ? (
        <div class="pinned">
          <div class="pane-head">
            <h2>{chosen.ids.length} selected</h2>
            <span class="aside">at most {MOST_SELECTED}; Shift + click adds</span>
            <span class="gap" />
            <button type="button" class="small" aria-pressed={chosen.alone} onClick={() => selection.change((now) => ({ ...now, alone: !now.alone }))}>Only these</button>
            <button type="button" class="small" onClick={() => selection.set(NONE)}>None</button>
          </div>
          {chosen.ids.map((id) => <Pinned key={id} id={id} tracks={tracks} trails={trails} followed={chosen.followed === id} />)}
        </div>
      ) : null}
      <TrackTable tracks={tracks} volume={volume} frame_s={frame_s} chosen={chosen.ids} hovered={chosen.hovered} empty={empty} />
    </section>
  );
}

/** The moment that is shown, at most four times a second: numbers that change faster cannot be read. The last one is kept. */
function useSlow(shown: Store<Shown>): Shown {
  const [value, setValue] = useState(shown.get());
  useEffect(() => {
    let last = -EVERY_MS;
    let timer = 0;
    const show = (): void => {
      timer = 0;
      last = performance.now();
      setValue(shown.get());
    };
    const end = shown.listen(() => {
      if (!timer) timer = window.setTimeout(show, Math.max(0, EVERY_MS - (performance.now() - last)));
    });
    show();
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [shown]);
  return value;
}

interface TableProps {
  tracks: Snapshot;
  volume: Volume;
  frame_s: number;
  chosen: readonly number[];
  hovered: number | null;
  empty: string;
}

function TrackTable({ tracks, volume, frame_s, chosen, hovered, empty }: TableProps): ComponentChild {
  const [order, setOrder] = useState<{ by: ColumnName; down: boolean }>({ by: "id", down: false });
  const scales = useMemo(() => new Scales(), []);
  const shade = useStore(ground, (value) => value);
  const how = useStore(look, (value) => value);
  const colouring = colouringOf(how, scales, volume, tracks, frame_s, shade);
  const rows = Array.from({ length: tracks.count }, (_, row) => row);
  const { value } = COLUMNS[order.by];
  rows.sort((a, b) => (order.down ? -1 : 1) * (value(tracks, a) - value(tracks, b)));
  const shownRows = rows.slice(0, MOST_ROWS);
  return (
    <div class="table-holder" tabIndex={0} role="region" aria-label="Tracks that are shown">
      <table class="tracks">
        <caption class="unseen">Tracks that are shown</caption>
        <thead>
          <tr>
            {(Object.keys(COLUMNS) as ColumnName[]).map((name) => (
              <th key={name} scope="col" aria-sort={order.by === name ? (order.down ? "descending" : "ascending") : "none"}>
                <button type="button" onClick={() => setOrder({ by: name, down: order.by === name && !order.down })}>
                  {COLUMNS[name].words}{order.by === name ? (order.down ? " ↓" : " ↑") : ""}
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shownRows.map((row) => {
            const id = tracks.id[row]!;
            return (
              <tr
                key={id} class={`${chosen.includes(id) ? "chosen" : ""} ${hovered === id ? "hovered" : ""}`}
                onPointerEnter={() => hover(id)} onPointerLeave={() => hover(null)} onClick={(event) => pick(id, event.shiftKey || event.ctrlKey || event.metaKey)}
              >
                <td>
                  <button type="button" class="bare" aria-pressed={chosen.includes(id)} onClick={(event) => { event.stopPropagation(); pick(id, true); }}>
                    <i class={isCoasting(tracks, row) ? "dot open" : "dot"} style={{ color: css(colourAt(colouring, valueOf(colouring, tracks, row))) }} />
                    {id}<span class="unseen">{isCoasting(tracks, row) ? ", coasting" : ""}{isNearFocus(tracks, row) ? ", near focus" : ""}</span>
                  </button>
                </td>
                <td>{(tracks.age[row]! * frame_s).toFixed(1)}</td>
                <td>{tracks.x[row]!.toFixed(1)}</td>
                <td>{tracks.y[row]!.toFixed(1)}</td>
                <td>{withSigma(tracks.z[row]!, tracks.sz[row]!)}</td>
                <td>{figure(speedOf(tracks, row), 2)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {rows.length > MOST_ROWS ? <p class="hint">The first {MOST_ROWS} of {rows.length} tracks in this order.</p> : null}
      {rows.length ? null : <p class="hint">{empty}</p>}
    </div>
  );
}

function Pinned({ id, tracks, trails, followed }: { id: number; tracks: Snapshot; trails: Trails; followed: boolean }): ComponentChild {
  const row = rowOf(tracks, id);
  const path = trails.path(id);
  const [from, to] = path ? part(path, tracks.t_s - SPARK_S, tracks.t_s) : [0, 0];
  return (
    <article class="pin" aria-label={`Track ${id}`}>
      <header>
        <h3>Track {id}</h3>
        <span class="aside">{row < 0 ? "not at this time" : isCoasting(tracks, row) ? "coasting, predicted" : isNearFocus(tracks, row) ? "near focus: depth is less certain" : "seen"}</span>
        <button type="button" class="small" aria-pressed={followed} onClick={() => selection.change((now) => ({ ...now, followed: followed ? null : id }))}>Follow</button>
        <button type="button" class="small" disabled={!path} onClick={() => path && copy(id, path)}>Copy CSV</button>
        <button type="button" class="small" aria-label={`Deselect track ${id}`} onClick={() => selection.change((now) => without(now, id))}>×</button>
      </header>
      {row < 0 ? null : (
        <dl>
          <div><dt>x</dt><dd>{withSigma(tracks.x[row]!, tracks.sx[row]!)} µm</dd></div>
          <div><dt>y</dt><dd>{withSigma(tracks.y[row]!, tracks.sy[row]!)} µm</dd></div>
          <div><dt>z</dt><dd>{withSigma(tracks.z[row]!, tracks.sz[row]!)} µm</dd></div>
          <div><dt>speed</dt><dd>{figure(speedOf(tracks, row), 3)} µm/s</dd></div>
          {path && to > from + 1 ? <div><dt>path, net</dt><dd>{lengths(path, from, to)}</dd></div> : null}
        </dl>
      )}
      {path && to > from + 1 ? <Sparkline t={path.t} values={path.z} from={from} to={to} label={`Depth of track ${id} over the last ${SPARK_S} s`} /> : null}
    </article>
  );
}

function lengths(path: Path, from: number, to: number): string {
  let length = 0;
  for (let at = from + 1; at < to; at++) length += Math.hypot(path.x[at]! - path.x[at - 1]!, path.y[at]! - path.y[at - 1]!, path.z[at]! - path.z[at - 1]!);
  const net = Math.hypot(path.x[to - 1]! - path.x[from]!, path.y[to - 1]! - path.y[from]!, path.z[to - 1]! - path.z[from]!);
  return `${figure(length)} µm, ${figure(net)} µm in ${(path.t[to - 1]! - path.t[from]!).toFixed(1)} s`;
}

function copy(id: number, path: Path): void {
  const lines = ["track_id,t_s,x_um,y_um,z_um"];
  for (let at = path.from; at < path.to; at++) lines.push([id, path.t[at]!.toFixed(4), path.x[at]!.toFixed(3), path.y[at]!.toFixed(3), path.z[at]!.toFixed(3)].join(","));
  const text = lines.join("\n");
  // Without the clipboard, as on a page without TLS, the text becomes a file.
  const given = navigator.clipboard ? navigator.clipboard.writeText(text) : Promise.reject(new Error("no clipboard"));
  given.catch(() => save(new Blob([text], { type: "text/csv" }), `track-${id}.csv`));
}
