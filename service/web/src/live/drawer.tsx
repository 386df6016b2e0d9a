// The timeline of the last minute, which freezes and scrubs while the run goes on, and plots on its axis.
import type { ComponentChild } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useKeys } from "../app/help";
import { ground } from "../app/theme";
import { colourAt } from "../colour/colouring";
import { css } from "../colour/depth";
import { Plot } from "../parts/plot";
import { frozenAt, history, instrument, renew, shown } from "../state/app";
import { useStore } from "../state/store";
import { selection } from "../tracks/selection";
import { part } from "../tracks/trails";

const SPAN_S = 60;
const EVERY_MS = 500;
const STEP_S = 0.25;

export function Drawer(): ComponentChild {
  const [now, setNow] = useState(0);
  const [open, setOpen] = useState(false);
  const frozen = useStore(frozenAt, (value) => value);
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  const span = history.span;
  const end = span?.[1] ?? 0;
  const begin = Math.max(span?.[0] ?? 0, end - SPAN_S);
  const freeze = (t_s: number | null): void => {
    const [first, last] = history.span ?? [begin, end];
    frozenAt.set(t_s === null ? null : Math.min(last, Math.max(first, t_s)));
    renew();
  };
  // What is on the screen is frozen, not what has come since.
  const seen = (): number => shown.get().moment.tracks.t_s;
  useKeys([
    { key: " ", shown: "Space", words: "Freeze the view; again: go on", run: () => freeze(frozenAt.get() === null ? seen() : null) },
    { key: "l", shown: "L", words: "Return to live", run: () => freeze(null) },
  ]);
  if (!span) return null;
  return (
    <section class={open ? "drawer open" : "drawer"} aria-label="The last minute" data-pane="plots">
      <div class="timeline-row">
        <button type="button" class="small" aria-pressed={frozen !== null} onClick={() => freeze(frozen === null ? seen() : null)}>{frozen === null ? "Freeze" : "Go on"}</button>
        <input
          type="range" class="timeline" min={begin} max={end} step="any" value={frozen ?? end} aria-label="Time of the run"
          aria-valuetext={frozen === null ? "live" : `${(end - frozen).toFixed(1)} s ago`}
          onInput={(event) => freeze(Number(event.currentTarget.value))}
          onKeyDown={(event) => {
            const step = { ArrowLeft: -STEP_S, ArrowRight: STEP_S }[event.key];
            if (step === undefined) return;
            event.preventDefault();
            freeze((frozen ?? end) + step);
          }}
        />
        <span class="when">{frozen === null ? "live" : `−${(end - frozen).toFixed(1)} s`}</span>
        <button type="button" class="small primary" disabled={frozen === null} onClick={() => freeze(null)}>Live</button>
        <button type="button" class="small" aria-expanded={open} onClick={() => setOpen(!open)}>Plots</button>
      </div>
      {open ? <Plots now={now} begin={begin} end={end} /> : null}
    </section>
  );
}

type Quantity = "depth" | "speed" | "displacement" | "tracks" | "lost";
const QUANTITIES: Record<Quantity, string> = { depth: "z / µm", speed: "speed / µm/s", displacement: "from first place / µm", tracks: "tracks", lost: "frames lost" };

function Plots({ now, begin, end }: { now: number; begin: number; end: number }): ComponentChild {
  const [what, setWhat] = useState<Quantity>("depth");
  const chosen = useStore(selection, ({ ids }) => ids);
  const frozen = useStore(frozenAt, (value) => value);
  const shade = useStore(ground, (value) => value);
  const marks = useStore(instrument, (state) => state.marks);
  const ofTracks = what === "depth" || what === "speed" || what === "displacement";
  const ids = ofTracks ? chosen : [];
  const offset = useRef(performance.now());
  offset.current = now;
  const data = useMemo(() => {
    if (what === "tracks") return [history.snapshots.map(({ t_s }) => t_s), history.snapshots.map(({ count }) => count)] as [number[], number[]];
    if (what === "lost") {
      const first = marks[0];
      return [marks.map(({ at }) => end - (now - at) / 1000), marks.map(({ gone }) => gone - (first?.gone ?? 0))] as [number[], number[]];
    }
    return ofTracksData(ids, what, begin, end);
  }, [now, what, ids]);
  const lines = ofTracks
    ? ids.map((id) => ({ label: `track ${id}`, colour: css(colourAt({ by: "track", ground: shade, range: [0, 1], only: null, frame_s: 0 }, id)) }))
    : [{ label: what, colour: shade === "dark" ? "#36c5c8" : "#0b7285" }];
  return (
    <div class="plots">
      <div class="group" role="group" aria-label="Quantity">
        {(Object.keys(QUANTITIES) as Quantity[]).map((name) => (
          <button key={name} type="button" class="small" aria-pressed={what === name} onClick={() => setWhat(name)}>{name}</button>
        ))}
      </div>
      {ofTracks && !ids.length ? <p class="hint">Select a track in the picture, in 3D or in the table: its {what} is drawn here.</p> : (
        <Plot title={what} x="time of the run / s" y={QUANTITIES[what]} data={data} lines={lines} height={170} at={frozen} range={[begin, Math.max(end, begin + 1)]} />
      )}
    </div>
  );
}

/** Columns of a plot of the selected tracks on one axis of time. */
function ofTracksData(ids: readonly number[], what: "depth" | "speed" | "displacement", begin: number, end: number): [number[], ...(number | null)[][]] {
  const step = 0.1;
  const times = Array.from({ length: Math.max(1, Math.round((end - begin) / step)) }, (_, i) => begin + i * step);
  const columns = ids.map((id) => {
    const values: (number | null)[] = times.map(() => null);
    const path = history.trails.path(id);
    if (!path) return values;
    const [from, to] = part(path, begin, end);
    for (let at = from; at < to; at++) {
      const slot = Math.round((path.t[at]! - begin) / step);
      if (slot < 0 || slot >= values.length) continue;
      const back = Math.max(from, at - 10);
      const far = (other: number): number => Math.hypot(path.x[at]! - path.x[other]!, path.y[at]! - path.y[other]!, path.z[at]! - path.z[other]!);
      values[slot] = what === "depth" ? path.z[at]! : what === "displacement" ? far(from) : at > back ? far(back) / (path.t[at]! - path.t[back]!) : null;
    }
    return values;
  });
  return [times, ...columns];
}
