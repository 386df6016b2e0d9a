// The system: the ledger as a flow, latencies, queues, processes, disk, events, and the theme.
import type { ComponentChild } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Event } from "../api/client";
import { sentence } from "../api/problem";
import { go } from "../app/route";
import { type Theme, theme } from "../app/theme";
import { Plot } from "../parts/plot";
import { count, figure, percent, moment } from "../parts/words";
import { api, events, instrument, notice, system } from "../state/app";
import { painted, type Summary } from "../state/painted";
import { problemWords, type Status } from "../state/status";
import { useModelName } from "../state/models";
import { sameContent, useStore } from "../state/store";
import { rates } from "./rates";

export function System(): ComponentChild {
  const status = useStore(instrument, (state) => state.status);
  return (
    <div class="sheet-page">
      <header><h1>System</h1><span class="gap" /><ThemeChoice /></header>
      {status?.problem ? <section class="card" role="alert"><h2>Problem</h2><p>{problemWords(status)}</p></section> : null}
      <div class="columns">
        <Ledger status={status} />
        <Latency status={status} />
        <Rates />
        <Queues status={status} />
        <Computer />
        <Scope status={status} />
      </div>
      <Events />
      <p class="hint"><a href="./docs" target="_blank" rel="noopener">Documentation of the API (new tab)</a> · <a href="./third-party-licences.txt" target="_blank" rel="noopener">Licences of what this page is made of</a></p>
    </div>
  );
}

function ThemeChoice(): ComponentChild {
  const now = useStore(theme, (value) => value);
  const names: readonly (readonly [Theme, string])[] = [["dark", "Dark"], ["light", "Light"], ["follow", "As the system"]];
  return (
    <div class="group" role="group" aria-label="Theme">
      {names.map(([name, words]) => <button key={name} type="button" class="small" aria-pressed={now === name} onClick={() => theme.set(name)}>{words}</button>)}
    </div>
  );
}

const LEAKS = {
  lost: "gone before they were fetched",
  skipped: "too late, and not recorded",
  deferred: "analysed after the run",
  unrecorded: "not written to disk",
} as const;

function Ledger({ status }: { status: Status | null }): ComponentChild {
  const ledger = status?.ledger;
  if (!ledger) return <section class="card"><h2>Frames</h2><p class="hint">Counted while a run is on.</p></section>;
  const { exposed, grabbed, lost } = ledger;
  const balanced = exposed === (grabbed ?? 0) + (lost ?? 0);
  const stage = (name: string, words: string, leaks: (keyof typeof LEAKS)[]): ComponentChild => (
    <li>
      <div class="stage" style={{ "--share": `${(100 * (ledger[name] ?? 0)) / Math.max(1, exposed ?? 1)}%` }}><b data-count={name}>{count(ledger[name])}</b> {words}</div>
      {leaks.map((leak) => (ledger[leak] ? <div key={leak} class={leak === "lost" || leak === "skipped" ? "leak warn" : "leak"}>↳ {count(ledger[leak])} {leak}: {LEAKS[leak]}</div> : null))}
    </li>
  );
  return (
    <section class="card">
      <h2>Frames <span class="aside">{lost === 0 && balanced ? "✓ nothing lost" : balanced ? "every frame accounted for" : "counting"}</span></h2>
      <ol class="flow">
        {stage("exposed", "exposed by the camera", ["lost"])}
        {stage("grabbed", "fetched from the camera", status?.record ? ["unrecorded"] : [])}
        {status?.record ? stage("recorded", "written to disk", []) : null}
        {stage("analysed", "analysed and stored", ["deferred", "skipped"])}
      </ol>
      {ledger["in_flight"] ? <p class="hint">{count(ledger["in_flight"])} on their way</p> : null}
      {status?.fitted_frames ? <p class="hint">Images fitted: <span data-fits>{fits(status.fitted_frames)}</span></p> : null}
    </section>
  );
}

const DEGREES: Readonly<Record<string, string>> = { full: "fully", steps: "in few steps", none: "not, for lack of time" };

/** How much of the fit was made, for each degree that occurred. */
function fits(counts: Record<string, number>): string {
  const all = Object.values(counts).reduce((sum, each) => sum + each, 0);
  const said = Object.entries(counts).filter(([, each]) => each > 0).map(([degree, each]) => `${percent(each, all)} ${DEGREES[degree] ?? degree}`);
  return said.length ? said.join(", ") : "none yet";
}

const STAGES = ["grabbed", "analysed", "tracked", "published"] as const;

function Latency({ status }: { status: Status | null }): ComponentChild {
  const [here, setHere] = useState<Summary>(painted.read());
  useEffect(() => {
    const timer = setInterval(() => setHere(painted.read()), 1000);
    return () => clearInterval(timer);
  }, []);
  const row = (name: string, values: Partial<Summary> | null | undefined, title?: string): ComponentChild => (
    <tr key={name} title={title}>
      <th scope="row">{name}</th>
      {(["p50", "p95", "p99", "max"] as const).map((which) => <td key={which} class="number">{figure(values?.[which], 3)}</td>)}
    </tr>
  );
  return (
    <section class="card">
      <h2>Latency <span class="aside">ms after mid-exposure</span></h2>
      <table id="latency">
        <thead><tr><th scope="col">stage</th><th scope="col">p50</th><th scope="col">p95</th><th scope="col">p99</th><th scope="col">max</th></tr></thead>
        <tbody>
          {STAGES.map((name) => row(name, status?.latency_ms?.[name]))}
          {row("painted here", here, "Compares the clocks of the service and of this computer; correct when both agree")}
        </tbody>
      </table>
    </section>
  );
}

function Rates(): ComponentChild {
  const [now, setNow] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setNow((number) => number + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  const [times, values, late] = rates.read(now);
  return (
    <section class="card">
      <h2>Last ten minutes</h2>
      <Plot title="Frames analysed per second" x="s ago" y="frames/s" data={[times, values]} lines={[{ label: "rate", colour: "#2aa5a8" }]} height={120} />
      <Plot title="Latency to the track, p50" x="s ago" y="ms" data={[times, late]} lines={[{ label: "late", colour: "#b08cf0" }]} height={120} />
    </section>
  );
}

function Queues({ status }: { status: Status | null }): ComponentChild {
  const stages = Object.entries(status?.stages ?? {});
  return (
    <section class="card">
      <h2>Queues</h2>
      {stages.length ? (
        <table>
          <thead><tr><th scope="col">stage</th><th scope="col">depth</th><th scope="col">highest</th><th scope="col">of</th><th scope="col">dropped</th></tr></thead>
          <tbody>
            {stages.map(([name, { depth, highest, capacity, dropped }]) => (
              <tr key={name}><th scope="row">{name}</th><td class="number">{count(depth)}</td><td class="number">{count(highest)}</td><td class="number">{count(capacity)}</td><td class="number">{count(dropped)}</td></tr>
            ))}
          </tbody>
        </table>
      ) : <p class="hint">Shown while a run is on. Views (publish, preview) are dropped when they are late; data is not.</p>}
    </section>
  );
}

function Computer(): ComponentChild {
  const facts = useStore(system, (value) => value);
  if (!facts) return <section class="card"><h2>Computer</h2><p class="hint">Not known yet.</p></section>;
  const { machine, disk, processes } = facts;
  return (
    <section class="card">
      <h2>Computer and service</h2>
      <dl class="facts">
        <div><dt>Bathyscope</dt><dd>{facts.version}</dd></div>
        <div><dt>Computer</dt><dd>{machine.name}, {machine.processors} processors, {machine.memory_gb} GB</dd></div>
        <div><dt>System</dt><dd>{machine.system}, Python {machine.python}</dd></div>
        <div><dt>Data</dt><dd>{facts.data_directory}</dd></div>
        {disk ? <div><dt>Disk</dt><dd><progress aria-label="Used space of the disk" max={disk.total_gb} value={disk.total_gb - disk.free_gb} /> {figure(disk.free_gb)} GB of {figure(disk.total_gb)} GB free</dd></div> : null}
        {Object.entries(processes).map(([name, process]) => (
          <div key={name}><dt>{name}</dt><dd>{process.state}{process.restarts ? `, restarted ${process.restarts} times` : ""}{process.problem ? <span class="wrong">{process.problem}</span> : null}</dd></div>
        ))}
      </dl>
    </section>
  );
}

function Scope({ status }: { status: Status | null }): ComponentChild {
  const scope = status?.microscope;
  const { description, camera } = scope ?? {};
  const model = useModelName(status?.model_id);
  if (!description || !camera) return <section class="card"><h2>Microscope</h2><p class="hint">No microscope is open.</p></section>;
  return (
    <section class="card">
      <h2>Microscope</h2>
      <dl class="facts">
        <div><dt>Camera</dt><dd>{description.camera} ({description.driver}), {description.sensor_shape[1]} × {description.sensor_shape[0]} pixels, {description.bit_depth} bits</dd></div>
        <div><dt>Exposure</dt><dd>{figure(camera.exposure_s * 1000)} ms, binning {camera.binning}</dd></div>
        <div><dt>Pixel</dt><dd>{description.pixel_size_um ? `${description.pixel_size_um} µm at the sample` : "not stated"}</dd></div>
        {Object.entries(description.devices ?? {}).map(([name, what]) => <div key={name}><dt>{what}</dt><dd>{name}</dd></div>)}
        <div><dt>Model</dt><dd>{model || "none"}</dd></div>
        {status?.process ? <div><dt>Engine</dt><dd>{figure(status.process.cpu_percent)} % of a processor, {figure(status.process.rss_mb)} MB</dd></div> : null}
      </dl>
    </section>
  );
}

const WARNING = /fail|away|lost|drop|restart|interrupt|kill|trouble|refus/;

function Events(): ComponentChild {
  const newest = useStore(events, (value) => value, sameContent);
  const [kind, setKind] = useState("");
  const [older, setOlder] = useState<{ items: Event[]; next: string | null } | null>(null);
  const all = [...newest, ...(older?.items ?? [])].filter(({ id }, place, list) => list.findIndex((each) => each.id === id) === place || id === undefined);
  const kinds = [...new Set(all.map((event) => event.kind))].sort();
  const more = async (): Promise<void> => {
    try {
      const page = await api.events({ limit: 100, ...(older?.next ? { cursor: older.next } : {}) });
      setOlder({ items: [...(older?.items ?? []), ...page.items], next: page.next });
    } catch (error) {
      notice(sentence(error));
    }
  };
  return (
    <section class="card">
      <div class="row">
        <h2>Events</h2>
        <span class="gap" />
        <label class="check">Kind
          <select value={kind} onInput={(event) => setKind(event.currentTarget.value)}>
            <option value="">all</option>
            {kinds.map((name) => <option key={name}>{name}</option>)}
          </select>
        </label>
      </div>
      <ol class="events" id="events">
        {all.filter((event) => !kind || event.kind === kind).map((event, place) => (
          <li key={event.id ?? `new ${place}`} class={WARNING.test(event.kind) ? "bad" : ""}>
            <time dateTime={event.occurred_at}>{moment(event.occurred_at)}</time>
            <span>{WARNING.test(event.kind) ? "! " : ""}{event.message}</span>
            {event.run_id ? <button type="button" class="small" onClick={() => go("runs", event.run_id!)}>Run</button> : null}
          </li>
        ))}
        {all.length ? null : <li class="hint">No events yet.</li>}
      </ol>
      {older === null || older.next ? <button type="button" class="small" onClick={() => void more()}>Earlier events</button> : null}
    </section>
  );
}
