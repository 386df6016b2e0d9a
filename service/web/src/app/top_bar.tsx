// The top bar: what this is, the trust sentence, the run, and Start or Stop.
import type { ComponentChild } from "preact";
import { useEffect, useState } from "preact/hooks";
import { api, happen, history, instrument, jobs, notice, system } from "../state/app";
import { sentence } from "../api/problem";
import { recordingGbPerHour } from "../state/status";
import { useModelName } from "../state/models";
import { sameContent, Store, useStore } from "../state/store";
import { type Action, trustOf } from "../state/trust";
import { clock } from "../parts/words";
import { isOn, jobWords } from "../parts/jobs";
import { CopyLink } from "./copy_link";
import { showHelp } from "./help";
import { go } from "./route";
import { StartSheet } from "./start_sheet";

/** Which field of the controls a remedy points at. */
export const pointed = new Store<string | null>(null);

export function TopBar(): ComponentChild {
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>Skip to the view</a>
      <Badge />
      <TrustSentence />
      <BarModel />
      <RunClock />
      <RunButton />
      <CopyLink />
      <button type="button" class="quiet" aria-label="Keys" title="Keys (?)" onClick={showHelp}>?</button>
    </>
  );
}

function Badge(): ComponentChild {
  const driver = useStore(instrument, ({ status }) => status?.microscope?.description?.driver ?? null);
  const camera = useStore(instrument, ({ status }) => status?.microscope?.description?.camera ?? "");
  if (driver === "simulated") return <span class="tag" title="No real microscope: the frames are computed.">SIMULATED</span>;
  return /demo|dcam/i.test(camera) ? <span class="tag" title={`Camera ${camera}: a demonstration, not a real one.`}>DEMO</span> : null;
}

function TrustSentence(): ComponentChild {
  const around = useStore(jobs, (all) => {
    const job = all.find((each) => isOn(each) && each.kind !== "export");
    return { job: job ? jobWords(job) : null, jobIsSweep: job?.step === "sweep" };
  }, sameContent);
  const free = useStore(system, (facts) => facts?.disk?.free_gb ?? null);
  const trust = useStore(
    instrument,
    (state) => {
      const rate = state.status?.microscope ? recordingGbPerHour(state.status.microscope) : null;
      const recorded = state.status?.ledger?.["recorded"];
      const period = state.status?.microscope?.frame_period_s;
      const recordedGb = rate !== null && recorded != null && period ? (rate * recorded * period) / 3600 : null;
      return trustOf(state, { ...around, recordedGb, hoursLeft: rate && free !== null ? free / rate : null });
    },
    sameContent,
  );
  return (
    <p class="trust" data-tone={trust.tone} id="trust">
      <i class="sign" data-tone={trust.tone} aria-hidden="true">{{ good: "✓", calm: "…", warn: "!", bad: "×" }[trust.tone]}</i>
      <span id="trust-words"><span class="unseen">{trust.sign}: </span>{trust.words}</span>
      <span class="unseen" role="status">{trust.tone === "good" ? "" : trust.words.replace(/\d+/g, "")}</span>
      {trust.actions.map((action) => (
        <button key={action.words} type="button" class="small" onClick={() => void act(action)}>{action.words}</button>
      ))}
    </p>
  );
}

export async function act({ does }: Action): Promise<void> {
  if (does === "calibrate") go("calibrate");
  else if (does === "models") go("calibrate", null, { at: "models" });
  else if (does === "system" || does === "details") go("system");
  else if (does === "runs") go("runs");
  else if (does === "cancel") {
    const job = jobs.get().find((each) => isOn(each) && each.step === "sweep");
    if (job) await api.cancelJob(job.id).catch((error: unknown) => notice(sentence(error)));
  } else {
    go("live");
    pointed.set(does);
  }
}

/** Name of the model that tracks, or that the next run uses. */
function BarModel(): ComponentChild {
  const id = useStore(instrument, ({ status }) => status?.model_id ?? status?.active_model_id ?? null);
  const name = useModelName(id);
  return id ? <a class="run-name bar-model" id="bar-model" href="#/calibrate?at=models" title={`Model ${id}`}>Model {name}</a> : null;
}

function RunClock(): ComponentChild {
  const run = useStore(instrument, (state) => state.run);
  const [name, setName] = useState("");
  const [seconds, setSeconds] = useState<number | null>(null);
  useEffect(() => {
    setName("");
    if (!run) return;
    api.run(run).then((found) => setName(found.name), () => undefined);
  }, [run]);
  useEffect(() => {
    const timer = setInterval(() => setSeconds(history.span?.[1] ?? null), 500);
    return () => clearInterval(timer);
  }, []);
  if (!run) return null;
  return (
    <a class="run-name" href={`#/runs/${run}`} id="run-name" title={`Run ${run}`}>
      {name || run}{seconds === null ? "" : ` · ${clock(seconds)}`}
    </a>
  );
}

function RunButton(): ComponentChild {
  const [sheet, setSheet] = useState(false);
  const run = useStore(instrument, (state) => state.run);
  const pending = useStore(instrument, (state) => state.pending?.what ?? null);
  const can = useStore(instrument, ({ status, link }) => link === "open" && (status?.state === "ready" || Boolean(status?.run_id)));
  const stop = async (): Promise<void> => {
    happen({ kind: "pending", now: performance.now(), what: "stop" });
    try {
      await api.stopRun(run!);
    } catch (error) {
      notice(sentence(error));
    } finally {
      happen({ kind: "pending", now: performance.now(), what: null });
    }
  };
  const busy = pending === "start" || pending === "stop";
  useEffect(() => {
    const ask = (): void => setSheet(true);
    document.addEventListener("bathyscope-start", ask);
    return () => document.removeEventListener("bathyscope-start", ask);
  }, []);
  return (
    <span class="run-button">
      {run ? (
        <button type="button" id="run" disabled={busy} aria-busy={busy} onClick={() => void stop()}>
          {busy ? <i class="spinner" /> : null}Stop run
        </button>
      ) : (
        <button type="button" id="run" class="primary" disabled={busy || !can} aria-busy={busy} aria-expanded={sheet} onClick={() => setSheet(!sheet)}>
          {busy ? <i class="spinner" /> : null}Start run
        </button>
      )}
      {sheet && !run ? <StartSheet close={() => setSheet(false)} /> : null}
    </span>
  );
}

/** Open the sheet that starts a run, from anywhere. */
export function askToStart(): void {
  document.dispatchEvent(new Event("bathyscope-start"));
}
