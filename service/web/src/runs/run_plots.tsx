// Plots of a run: the selected tracks, or where none is selected all tracks together.
import type { ComponentChild } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import { ground } from "../app/theme";
import { colourAt } from "../colour/colouring";
import { css, type Ground } from "../colour/depth";
import { type Line, Plot } from "../parts/plot";
import { svgOf } from "../parts/plot_svg";
import { figure, save } from "../parts/words";
import { type Store, useStore } from "../state/store";
import { meanSquared, powerLaw, type Recorded, type Track } from "../tracks/recorded";
import { MOST_SELECTED, selection } from "../tracks/selection";
import type { Playing } from "./replay";

const KINDS = ["depth", "speed", "displacement", "MSD", "depths", "speeds", "lengths"] as const;
type Kind = (typeof KINDS)[number];
const BINS = 30;
const MOST_STEPS = 2000;

type Table = [number[], ...(number | null)[][]];

export function RunPlots({ recorded, playing }: { recorded: Recorded; playing: Store<Playing> }): ComponentChild {
  const [kind, setKind] = useState<Kind>("depth");
  const chosen = useStore(selection, ({ ids }) => ids);
  const shade = useStore(ground, (value) => value);
  const at = useStore(playing, ({ t_s }) => Math.round(t_s * 10) / 10);
  const holder = useRef<HTMLDivElement>(null);
  const picked = chosen.map((id) => recorded.path(id)).filter((track): track is Track => track !== null);
  const longest = useMemo(() => longestOf(recorded), [recorded]);
  const tracks = picked.length || kind === "MSD" ? picked : longest;
  const single = kind === "depth" || kind === "speed" || kind === "displacement" || kind === "MSD";
  const made = useMemo(() => (single ? ofSelected(kind, tracks, recorded) : ofAll(kind, recorded)), [kind, recorded, chosen]);
  const linesOn = (place: Ground): Line[] => {
    const colour = (id: number): string => css(colourAt({ by: "track", ground: place, range: [0, 1], only: null, frame_s: 0 }, id));
    return single
      ? made.names.map((name) => ({ label: name, colour: colour(Number(/\d+/.exec(name)?.[0] ?? 0)), points: kind === "MSD" && !name.includes("fit"), dashed: name.includes("fit") }))
      : [{ label: kind, colour: place === "dark" ? "#36a9ac" : "#0b7285", bars: true }];
  };
  const lines = linesOn(shade);
  const table = (): string => [[made.x, ...made.names].join(","), ...made.data[0].map((x, i) => [x, ...made.data.slice(1).map((column) => column[i] ?? "")].join(","))].join("\n");
  // Files have a white ground, so their colours are those of the light theme.
  const svg = (): string => svgOf({ ...made, lines: linesOn("light"), logarithmic: kind === "MSD" });
  const picture = (): void => holder.current?.querySelector("canvas")?.toBlob((content) => content && save(content, `${kind}.png`));
  return (
    <div class="run-plots" ref={holder}>
      <div class="group" role="group" aria-label="Plot">
        {KINDS.map((name) => <button key={name} type="button" class="small" aria-pressed={kind === name} onClick={() => setKind(name)}>{name}</button>)}
      </div>
      {single && !tracks.length && kind !== "MSD" ? <p class="hint">No track passes the filters.</p> : (
        <>
          {single && !picked.length && kind !== "MSD" ? <p class="hint">No track is selected: {tracks.length === 1 ? "the longest one is" : `the ${tracks.length} longest are`} drawn.</p> : null}
          <Plot title={made.title} x={made.x} y={made.y} data={made.data} lines={lines} height={260} logarithmic={kind === "MSD"} at={kind === "MSD" || !single ? null : at} />
          {made.says ? <p class="hint">{made.says}</p> : null}
          <div class="row"><button type="button" class="small" onClick={picture}>PNG</button><button type="button" class="small" onClick={() => save(new Blob([svg()], { type: "image/svg+xml" }), `${kind}.svg`)}>SVG</button><button type="button" class="small" onClick={() => save(new Blob([table()], { type: "text/csv" }), `${kind}.csv`)}>CSV</button></div>
        </>
      )}
    </div>
  );
}

/** What is drawn while no track is selected. */
function longestOf({ tracks }: Recorded): Track[] {
  return [...tracks].sort((a, b) => b.points - a.points || a.id - b.id).slice(0, MOST_SELECTED);
}

interface Made {
  title: string;
  x: string;
  y: string;
  names: string[];
  data: Table;
  says: string;
}

function ofSelected(kind: Kind, tracks: readonly Track[], recorded: Recorded): Made {
  if (kind === "MSD") return ofDisplacements(tracks.length ? tracks : recorded.tracks, tracks.length > 0);
  const begin = Math.min(...tracks.map(({ t }) => t[0]!));
  const end = Math.max(...tracks.map(({ t, to }) => t[to - 1]!));
  const step = Math.max(0.01, (end - begin) / MOST_STEPS);
  const times = Array.from({ length: Math.max(1, Math.ceil((end - begin) / step) + 1) }, (_, i) => begin + i * step);
  const columns = tracks.map((track) => {
    const values: (number | null)[] = times.map(() => null);
    for (let i = 0; i < track.to; i++) {
      const away = Math.hypot(track.x[i]! - track.x[0]!, track.y[i]! - track.y[0]!, track.z[i]! - track.z[0]!);
      const slot = Math.min(times.length - 1, Math.round((track.t[i]! - begin) / step));
      values[slot] = kind === "depth" ? track.z[i]! : kind === "speed" ? Math.hypot(track.vx[i]!, track.vy[i]!, track.vz[i]!) : away;
    }
    return values;
  });
  const y = { depth: "z / µm", speed: "speed / µm/s", displacement: "from first place / µm" }[kind as "depth"];
  return { title: `${kind} over time`, x: "time / s", y, names: tracks.map(({ id }) => `track ${id}`), data: [times, ...columns], says: "" };
}

/** Mean squared displacement: a curve and its fit for each selected track, or one for all tracks together. */
function ofDisplacements(tracks: readonly Track[], each: boolean): Made {
  const curves = tracks.map(meanSquared).filter(({ lag }) => lag.length > 0);
  const shown = each ? curves : [together(curves)];
  const lags = [...new Set(shown.flatMap(({ lag }) => lag.map((value) => +value.toPrecision(3))))].sort((a, b) => a - b);
  const columns: (number | null)[][] = [];
  const names: string[] = [];
  const says: string[] = [];
  shown.forEach((curve, place) => {
    const name = each ? `track ${tracks[place]!.id}` : "all tracks";
    const known = new Map(curve.lag.map((value, i) => [+value.toPrecision(3), curve.msd[i]!]));
    columns.push(lags.map((lag) => known.get(lag) ?? null));
    names.push(name);
    const law = powerLaw(curve);
    if (!law) return;
    columns.push(lags.map((lag) => law.factor * lag ** law.exponent));
    names.push(`${name} fit`);
    says.push(`${name}: exponent ${figure(law.exponent)} (1: diffusion, 2: straight), ${figure(law.factor)} µm² at 1 s`);
  });
  return { title: "Mean squared displacement", x: "lag / s", y: "µm²", names, data: [lags, ...columns], says: `${says.join("; ")}. Localization error is not removed here; bathyscope measure and the export with measures do that.` };
}

function together(curves: readonly { lag: number[]; msd: number[] }[]): { lag: number[]; msd: number[] } {
  const sums = new Map<number, { sum: number; count: number }>();
  for (const { lag, msd } of curves) {
    lag.forEach((value, i) => {
      const key = +value.toPrecision(2);
      const now = sums.get(key) ?? { sum: 0, count: 0 };
      sums.set(key, { sum: now.sum + msd[i]!, count: now.count + 1 });
    });
  }
  const sorted = [...sums].filter(([, { count }]) => count > 1 || sums.size < 4).sort(([a], [b]) => a - b);
  return { lag: sorted.map(([lag]) => lag), msd: sorted.map(([, { sum, count }]) => sum / count) };
}

function ofAll(kind: Kind, { tracks }: Recorded): Made {
  const values = tracks.map((track) => (kind === "depths" ? track.mean_z : kind === "speeds" ? track.speed : track.t[track.to - 1]! - track.t[0]!));
  const x = { depths: "mean z / µm", speeds: "speed / µm/s", lengths: "duration / s" }[kind as "depths"];
  const low = Math.min(0, ...values.slice(0, 1), values.reduce((least, value) => Math.min(least, value), Infinity));
  const high = values.reduce((most, value) => Math.max(most, value), low + 1e-6);
  const bins = new Array<number>(BINS).fill(0);
  for (const value of values) bins[Math.min(BINS - 1, Math.floor(((value - low) / (high - low)) * BINS))]!++;
  const edges = bins.map((_, i) => low + (i / BINS) * (high - low));
  return { title: `Histogram of ${kind}, ${tracks.length} tracks`, x, y: "tracks", names: ["tracks"], data: [edges, bins], says: "" };
}
