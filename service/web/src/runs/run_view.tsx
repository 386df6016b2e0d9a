// One run: its tracks over the whole time, filters, plots and exports.
import type { ComponentChild } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Event, Run } from "../api/client";
import { Problem, sentence } from "../api/problem";
import { useKeys } from "../app/help";
import { go, remember, route } from "../app/route";
import { ImagePane } from "../live/image_pane";
import { Inspector } from "../live/inspector";
import { ScenePane } from "../live/scene_pane";
import { clock, count, minutes, moment } from "../parts/words";
import { UNKNOWN, type Volume } from "../scene/volume";
import { api, notice } from "../state/app";
import { cameraPixelUm, frameSize, type MicroscopeFacts } from "../state/status";
import { useModelName } from "../state/models";
import { useStore } from "../state/store";
import { addressOf, type Filter, filterOf, passes, RANGES } from "../tracks/filter";
import { Recorded, type Track, trackOf } from "../tracks/recorded";
import { followSelection } from "../tracks/selected_address";
import { Exports } from "./exports";
import { Replay, SPEEDS } from "./replay";
import { NameField } from "../parts/name_field";
import { boxOf, Filters, regionOf } from "./filters";
import { DeleteRun } from "./run_parts";
import { RunPlots } from "./run_plots";
import { seconds } from "./runs";

const MOST_POINTS = 2_000_000;
const RENEWED_EVERY_MS = 2000;
const TABS = ["tracks", "plots", "export", "about"] as const;
type Tab = (typeof TABS)[number];

interface Loaded {
  tracks: readonly Track[];
  revision: number;
  complete: boolean;
  loading: boolean;
}

export function RunView({ id }: { id: string }): ComponentChild {
  const [run, setRun] = useState<Run | null>(null);
  const [fault, setFault] = useState("");
  const [loaded, setLoaded] = useState<Loaded>({ tracks: [], revision: 0, complete: false, loading: true });
  const [events, setEvents] = useState<readonly Event[]>([]);
  const values = useStore(route, (now) => now.values);
  const revision = values["rev"] ? Number(values["rev"]) : null;
  useEffect(() => {
    const end = followSelection();
    api.events({ run: id, limit: 100 }).then(({ items }) => setEvents(items), () => undefined);
    return end;
  }, [id]);
  useEffect(() => {
    let away = false;
    setLoaded({ tracks: [], revision: 0, complete: false, loading: true });
    void (async () => {
      try {
        setRun(await api.run(id));
        const tracks: Track[] = [];
        let points = 0;
        let due = 0;
        let cursor: string | null = null;
        do {
          const page = await api.tracks(id, { limit: 1000, revision, cursor });
          if (away) return;
          for (const item of page.items) {
            const track = trackOf(item);
            points += track.to;
            tracks.push(track);
          }
          cursor = page.next;
          // Each renewal sorts all tracks that have come, so a long run is shown in steps.
          if (cursor !== null && points < MOST_POINTS && performance.now() < due) continue;
          due = performance.now() + RENEWED_EVERY_MS;
          setLoaded({ tracks: [...tracks].reverse(), revision: page.revision, complete: cursor === null, loading: cursor !== null && points < MOST_POINTS });
        } while (cursor !== null && points < MOST_POINTS);
      } catch (error) {
        if (away) return;
        setFault(error instanceof Problem && error.status === 404 ? `There is no run ${id}; it may have been deleted.` : sentence(error));
        setLoaded((now) => ({ ...now, loading: false }));
      }
    })();
    return () => {
      away = true;
    };
  }, [id, revision]);
  if (fault && !run) return <div class="sheet-page"><header><h1>Run</h1></header><p class="wrong" role="alert">{fault}</p><button type="button" onClick={() => go("runs")}>All runs</button></div>;
  if (!run) return <div class="sheet-page"><header><h1>Run</h1></header><p class="hint">Reading the run …</p></div>;
  return <RunLayout run={run} loaded={loaded} events={events} fault={fault} changed={setRun} />;
}

interface ViewProps {
  run: Run;
  loaded: Loaded;
  events: readonly Event[];
  fault: string;
  changed: (run: Run) => void;
}

/** Volume, pixel and frame period of a run, from the settings that it began with. */
function opticsOf(run: Run, tracks: readonly Track[]): { volume: Volume; pixelUm: number; frame_s: number; bitDepth: number | null } {
  const facts = ((run.settings as Record<string, unknown>)["microscope"] ?? {}) as MicroscopeFacts;
  const pixelUm = cameraPixelUm(facts) ?? 0.65;
  const size = frameSize(facts);
  const deepest = tracks.reduce((most, track) => Math.max(most, track.deepest), 0);
  const shallow = tracks.reduce((least, track) => Math.min(least, track.shallowest), 0);
  const round = (value: number): number => Math.sign(value) * Math.ceil(Math.abs(value) / 20) * 20;
  const depth: readonly [number, number] = [Math.min(0, shallow < -5 ? round(shallow) : 0), deepest > 0 ? round(deepest) : UNKNOWN.z[1]];
  return {
    volume: size ? { x: [0, size.width * pixelUm], y: [0, size.height * pixelUm], z: depth } : { ...UNKNOWN, z: depth },
    pixelUm,
    frame_s: facts.frame_period_s ?? 0.01,
    bitDepth: facts.description?.bit_depth ?? null,
  };
}

function RunLayout({ run, loaded, events, fault, changed }: ViewProps): ComponentChild {
  const values = useStore(route, (now) => now.values);
  const written = ["points", "focus", ...RANGES].map((name) => values[name] ?? "").join();
  const filter = useMemo(() => filterOf(values), [written]);
  const setFilter = (next: Filter): void => remember(addressOf(next));
  const tab = TABS.find((name) => name === values["at"]) ?? "tracks";
  const optics = useMemo(() => opticsOf(run, loaded.tracks), [run.id, loaded.tracks]);
  const box = useMemo(() => boxOf(filter, optics.volume), [filter, optics]);
  const kept = useMemo(() => loaded.tracks.filter((track) => passes(track, filter)), [loaded.tracks, filter]);
  const recorded = useMemo(() => new Recorded(kept), [kept]);
  const replay = useMemo(() => new Replay(api, run, recorded, optics.frame_s), [run.id]);
  const placed = useRef(false);
  useEffect(() => () => replay.end(), [replay]);
  useEffect(() => {
    replay.setTracks(recorded);
    if (!loaded.loading && !placed.current) {
      placed.current = true;
      replay.seek(values["t"] ? Number(values["t"]) : recorded.first_s);
    }
  }, [recorded, loaded.loading]);
  return (
    <div class="run-page">
      <RunHead run={run} loaded={loaded} kept={kept.length} changed={changed} />
      {fault ? <p class="wrong" role="alert">{fault}</p> : null}
      {run.problem ? <p class="held">{run.problem}</p> : null}
      <div class="live run" data-pane="3D">
        <div class="middle">
          <ImagePane shown={replay.shown} {...optics} box={regionOf(box, optics.pixelUm)} empty={<p>{run.recording ? "The frame is read …" : "This run has no recorded frames."}</p>} />
          <div class="divider still" />
          <ScenePane shown={replay.shown} volume={optics.volume} frame_s={optics.frame_s} box={box}>
            {loaded.loading ? <p class="hint over">{count(loaded.tracks.length)} tracks read …</p> : null}
          </ScenePane>
        </div>
        <Timeline replay={replay} recorded={recorded} run={run} events={events} frame_s={optics.frame_s} />
        <div class="run-side">
          <div class="group tabs" role="group" aria-label="Part of the run">
            {TABS.map((name) => <button key={name} type="button" class="small" aria-pressed={tab === name} onClick={() => remember({ at: name === "tracks" ? "" : name })}>{name[0]!.toUpperCase() + name.slice(1)}</button>)}
          </div>
          <Filters filter={filter} set={setFilter} kept={kept.length} all={loaded.tracks.length} pixelUm={optics.pixelUm} drawable={run.recording !== null} />
          <Side tab={tab} run={run} recorded={recorded} replay={replay} volume={optics.volume} frame_s={optics.frame_s} loaded={loaded} changed={changed} />
        </div>
      </div>
    </div>
  );
}

interface SideProps {
  tab: Tab;
  run: Run;
  recorded: Recorded;
  replay: Replay;
  volume: Volume;
  frame_s: number;
  loaded: Loaded;
  changed: (run: Run) => void;
}

function Side({ tab, run, recorded, replay, volume, frame_s, loaded, changed }: SideProps): ComponentChild {
  if (tab === "plots") return <RunPlots recorded={recorded} playing={replay.playing} />;
  if (tab === "export") return <Exports run={run} recorded={recorded} all={loaded.tracks.length} revision={loaded.revision} complete={loaded.complete} replay={replay} />;
  if (tab === "about") return <About run={run} changed={changed} />;
  return <Inspector shown={replay.shown} volume={volume} frame_s={frame_s} empty="No tracks at this time." />;
}

function RunHead({ run, loaded, kept, changed }: { run: Run; loaded: Loaded; kept: number; changed: (run: Run) => void }): ComponentChild {
  const long = seconds(run);
  const model = useModelName(run.model_id);
  return (
    <header class="run-head">
      <h1 class="unseen">Run {run.name || run.id}</h1>
      <a class="button small" href="#/runs">← Runs</a>
      <NameField of="run" id={run.id} name={run.name} save={async (name) => changed(await api.changeRun(run.id, { name }))} />
      <span class="aside">{moment(run.started_at)} · {run.state === "running" ? "running" : long === null ? "" : minutes(long)} · {count(kept)} of {count(loaded.tracks.length)} tracks{loaded.complete || loaded.loading ? "" : " (the newest)"} · {count(run.ledger["lost"])} frames lost · model {model}</span>
      <span class="gap" />
      <Revisions run={run} revision={loaded.revision} />
      {run.state === "running" ? null : <DeleteRun run={run} done={() => go("runs")} />}
    </header>
  );
}

function Revisions({ run, revision }: { run: Run; revision: number }): ComponentChild {
  if (run.revision < 2) return null;
  const all = [...run.revisions.map((each) => ({ id: Number(each["revision"]), words: String(each["form"] ?? "") })), { id: 1, words: "live" }];
  return (
    <label class="check">Revision
      <select value={String(revision)} onInput={(event) => remember({ rev: event.currentTarget.value })}>
        {all.map(({ id, words }) => <option key={id} value={String(id)}>{id}, {words}</option>)}
      </select>
    </label>
  );
}

function About({ run, changed }: { run: Run; changed: (run: Run) => void }): ComponentChild {
  const [notes, setNotes] = useState(run.notes);
  const model = useModelName(run.model_id);
  const keep = async (): Promise<void> => {
    try {
      changed(await api.changeRun(run.id, { notes }));
      notice("The notes are stored.", false);
    } catch (error) {
      notice(sentence(error));
    }
  };
  return (
    <div class="about">
      <label>Notes<textarea rows={6} maxLength={10000} value={notes} onInput={(event) => setNotes(event.currentTarget.value)} /></label>
      <button type="button" disabled={notes === run.notes} onClick={() => void keep()}>Store the notes</button>
      <dl class="facts">
        <div><dt>Id</dt><dd>{run.id}</dd></div>
        <div><dt>Model</dt><dd>{model}{model === run.model_id ? "" : `, ${run.model_id}`}</dd></div>
        <div><dt>Frames</dt><dd>{count(run.ledger["exposed"])} exposed, {count(run.ledger["analysed"])} analysed, {count(run.ledger["lost"])} lost, {count(run.ledger["skipped"])} skipped</dd></div>
        <div><dt>Recording</dt><dd>{run.recording ? `${run.recording} (OME-Zarr in the data folder)` : "none"}</dd></div>
      </dl>
    </div>
  );
}

const BINS = 400;

interface TimelineProps {
  replay: Replay;
  recorded: Recorded;
  run: Run;
  events: readonly Event[];
  frame_s: number;
}

function Timeline({ replay, recorded, run, events, frame_s }: TimelineProps): ComponentChild {
  const { t_s, on, speed } = useStore(replay.playing, (value) => value);
  const density = useMemo(() => recorded.density(BINS), [recorded]);
  const most = Math.max(1, ...density);
  const outline = useMemo(() => `M0 24${density.map((value, i) => `L${i} ${(24 - (value / most) * 22).toFixed(1)}`).join("")}L${BINS} 24Z`, [density]);
  const { begin_s, end_s } = recorded;
  useEffect(() => {
    if (!on && t_s > 0) remember({ t: t_s.toFixed(2) });
  }, [on, t_s]);
  useKeys([
    { key: " ", shown: "Space", words: "Play or pause", run: () => replay.toggle() },
    { key: ".", shown: ".", words: "One frame on", run: () => replay.step(1) },
    { key: ",", shown: ",", words: "One frame back", run: () => replay.step(-1) },
  ]);
  const began = Date.parse(run.started_at) / 1000;
  return (
    <section class="drawer" aria-label="Time of the run" data-pane="plots">
      <div class="density">
        <svg viewBox={`0 0 ${BINS} 24`} preserveAspectRatio="none" role="img" aria-label={`Number of tracks over the run, at most ${most}`}>
          <path d={outline} />
        </svg>
        {events.map((event) => {
          const at = (Date.parse(event.occurred_at) / 1000 - began - begin_s) / (end_s - begin_s || 1);
          return at > 0 && at < 1 ? <i key={event.id} class="event" style={{ left: `${at * 100}%` }} title={event.message} /> : null;
        })}
        <input
          type="range" class="timeline" id="time" min={begin_s} max={end_s} step="any" value={t_s} aria-label="Time of the run" aria-valuetext={`${t_s.toFixed(2)} s`}
          onInput={(event) => replay.seek(Number(event.currentTarget.value))}
          onKeyDown={(event) => {
            const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
            if (step === undefined) return;
            event.preventDefault();
            replay.step(step);
          }}
        />
      </div>
      <div class="timeline-row">
        <button type="button" class="small primary" id="play" onClick={() => replay.toggle()}>{on ? "Pause" : "Play"}</button>
        <button type="button" class="small" aria-label="One frame back" onClick={() => replay.step(-1)}>‹</button>
        <button type="button" class="small" aria-label="One frame on" onClick={() => replay.step(1)}>›</button>
        <label class="check">Speed
          <select value={String(speed)} onInput={(event) => replay.setSpeed(Number(event.currentTarget.value))}>{SPEEDS.map((value) => <option key={value} value={String(value)}>×{value}</option>)}</select>
        </label>
        <span class="gap" />
        <span class="when">{clock(t_s)}.{String(Math.floor((t_s % 1) * 100)).padStart(2, "0")} of {clock(end_s)} · frame {count(Math.round(t_s / frame_s))}</span>
      </div>
    </section>
  );
}
