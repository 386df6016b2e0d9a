// The seven steps of a calibration, each with its image and one action.
import type { ComponentChild } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Job } from "../api/client";
import { sentence } from "../api/problem";
import { automatic, saturated } from "../image/contrast";
import { CameraPart, FocusPart } from "../live/controls";
import { ImagePane } from "../live/image_pane";
import { CameraSwitch, ShowCamera } from "../live/show_camera";
import { isOn, jobWords, share } from "../parts/jobs";
import { Plot } from "../parts/plot";
import { count, figure, minutes } from "../parts/words";
import { UNKNOWN } from "../scene/volume";
import { api, instrument, jobs, notice, shown } from "../state/app";
import { cameraPixelUm } from "../state/status";
import { sameContent, useStore } from "../state/store";
import type { StepProps } from "./calibrate";
import { countSpots, sharpness } from "./spots";
import { fitsPixel, planesOf, score } from "./step";

const OVERHEAD_S = 0.1;

function Picture(): ComponentChild {
  const facts = useStore(instrument, ({ status }) => ({ pixelUm: (status?.microscope ? cameraPixelUm(status.microscope) : null) ?? status?.pixel_size_um ?? 0.65, bitDepth: status?.microscope?.description?.bit_depth ?? null }), sameContent);
  return <div class="step-picture"><ImagePane shown={shown} volume={UNKNOWN} frame_s={0.01} {...facts} empty={<ShowCamera />}><CameraSwitch /></ImagePane></div>;
}

/** Facts of the newest picture, twice a second. */
function useLook(): { spots: number; full: number | null; spread: number } | null {
  const [look, setLook] = useState<{ spots: number; full: number | null; spread: number } | null>(null);
  useEffect(() => {
    const timer = setInterval(() => {
      const { picture } = shown.get().moment;
      if (!picture) return;
      const { black, white } = automatic(picture);
      setLook({ spots: countSpots(picture), full: saturated(picture, instrument.get().status?.microscope?.description?.bit_depth ?? null), spread: white - black });
    }, 500);
    return () => clearInterval(timer);
  }, []);
  return look;
}

function Check({ good, words }: { good: boolean | null; words: string }): ComponentChild {
  return <li class={good === null ? "" : good ? "fit good" : "fit bad"}>{good === null ? "· " : good ? "✓ " : "! "}{words}</li>;
}

export function Sample({ go }: StepProps): ComponentChild {
  const look = useLook();
  return (
    <>
      <div class="step-side">
        <h2>Put beads on the stage</h2>
        <p>Small fluorescent beads on a cover slip, the same objective and binning as later. Every bead must be alone: its rings must not touch those of others.</p>
        <ul class="checks">
          <Check good={look ? look.spread > 50 : null} words={look ? `bright: the picture spans ${figure(look.spread)} counts` : "bright"} />
          <Check good={look ? look.spots >= 3 && look.spots <= 60 : null} words={look ? `apart: ${look.spots} bright spots (3 to 60 are good)` : "apart, 3 to 60 in the picture"} />
          <Check good={look?.full == null ? null : look.full === 0} words={look?.full == null ? "not saturated" : look.full ? `saturated: ${count(look.full)} pixels; shorten the exposure` : "not saturated"} />
        </ul>
        <CameraPart />
        <button type="button" class="primary" onClick={() => go("focus")}>Next: focus</button>
      </div>
      <Picture />
    </>
  );
}

export function Focus({ go }: StepProps): ComponentChild {
  const points = useRef<Map<number, number>>(new Map());
  const [curve, setCurve] = useState<[number[], number[]]>([[], []]);
  const at = useStore(instrument, ({ status }) => status?.microscope?.stage?.stage_um ?? null);
  useEffect(() => {
    let seen: unknown = null;
    return shown.listen(() => {
      const { picture } = shown.get().moment;
      const stage = instrument.get().status?.microscope?.stage?.stage_um;
      if (!picture || picture === seen || stage == null) return;
      seen = picture;
      points.current.set(+stage.toFixed(2), sharpness(picture));
      const sorted = [...points.current].sort(([a], [b]) => a - b);
      setCurve([sorted.map(([um]) => um), sorted.map(([, value]) => value)]);
    });
  }, []);
  const best = curve[1].length > 2 ? curve[0][curve[1].indexOf(Math.max(...curve[1]))]! : null;
  const toBest = async (): Promise<void> => {
    try {
      await api.moveStage({ stage_um: best! });
    } catch (error) {
      notice(sentence(error));
    }
  };
  return (
    <>
      <div class="step-side">
        <h2>Find the focus</h2>
        <p>Move until the beads are small and bright. The curve is highest in focus. The sweep finds the exact focus itself.</p>
        <FocusPart />
        <Plot title="Sharpness while moving" x="focus drive / µm" y="sharpness" data={curve} lines={[{ label: "sharpness", colour: "#2aa5a8", points: true }]} height={150} at={at} />
        <div class="row">
          <button type="button" disabled={best === null} onClick={() => void toBest()}>{best === null ? "To the sharpest place" : `To the sharpest place, ${best} µm`}</button>
          <button type="button" onClick={() => { points.current.clear(); setCurve([[], []]); }}>Clear</button>
        </div>
        <button type="button" class="primary" onClick={() => go("range")}>Next: range</button>
      </div>
      <Picture />
    </>
  );
}

export function Range({ go, pixelUm }: StepProps): ComponentChild {
  const [fault, setFault] = useState("");
  const [busy, setBusy] = useState(false);
  const [wanted, setWanted] = useState({ name: "", low: 0, high: 50, step: 1, repeats: 2, pixel: pixelUm ?? 0 });
  const stage = useStore(instrument, ({ status }) => status?.microscope?.stage ?? null, sameContent);
  const held = useStore(instrument, ({ status }) => status?.owner?.kind ?? null);
  const exposure = useStore(instrument, ({ status }) => status?.microscope?.camera?.exposure_s ?? 0.01);
  const planes = planesOf(wanted.low, wanted.high, wanted.step);
  const time = planes * (wanted.repeats * exposure + 0.05 + OVERHEAD_S);
  const start = async (): Promise<void> => {
    setFault("");
    setBusy(true);
    try {
      await api.calibrate({
        name: wanted.name, z_range_um: [wanted.low, wanted.high], z_step_um: wanted.step, repeats: wanted.repeats, settle_s: 0.05,
        ...(pixelUm === null ? { pixel_size_um: wanted.pixel } : {}),
      } as Parameters<typeof api.calibrate>[0]); // prettier-ignore
      go("sweep");
    } catch (error) {
      setFault(sentence(error));
    } finally {
      setBusy(false);
    }
  };
  const number = (name: "low" | "high" | "step" | "repeats" | "pixel", words: string): ComponentChild => (
    <label>{words}<input type="number" step="any" value={wanted[name]} onInput={(event) => setWanted({ ...wanted, [name]: Number(event.currentTarget.value) })} /></label>
  );
  return (
    <div class="step-side wide">
      <h2>Choose the depths</h2>
      <p>Depths from the focal plane, positive away from the objective. One side of focus is best: patterns of both sides look alike.</p>
      <label>Name<input type="text" maxLength={200} value={wanted.name} placeholder="objective, beads, date" onInput={(event) => setWanted({ ...wanted, name: event.currentTarget.value })} /></label>
      <div class="fields">{number("low", "From, µm")}{number("high", "To, µm")}{number("step", "Step, µm")}{number("repeats", "Exposures at each plane")}{pixelUm === null ? number("pixel", "Camera pixel at the sample, µm") : null}</div>
      {stage?.limits && stage.stage_um !== null ? <Way low={wanted.low} high={wanted.high} at={stage.stage_um} limits={stage.limits} /> : null}
      <p class="hint">{planes} planes, about {minutes(time)}, then some minutes of computing. The focus drive returns to where it is now.</p>
      {held === "run" ? <p class="held">A run has the microscope. Stop it first.</p> : null}
      {fault ? <p class="wrong" role="alert">{fault}</p> : null}
      <button type="button" class="primary" id="start-sweep" disabled={busy || planes < 2} aria-busy={busy} onClick={() => void start()}>{busy ? <i class="spinner" /> : null}Start the sweep</button>
    </div>
  );
}

function Way({ low, high, at, limits }: { low: number; high: number; at: number; limits: { low_um: number; high_um: number } }): ComponentChild {
  const span = limits.high_um - limits.low_um;
  const part = (um: number): number => Math.min(100, Math.max(0, ((um - limits.low_um) / span) * 100));
  // The drive may have to move either way for depths away from the objective; both are shown.
  const ways = [[at + low, at + high], [at - high, at - low]] as const;
  const outside = ways.every(([from, to]) => from < limits.low_um || to > limits.high_um);
  return (
    <div>
      <div class="limits" role="img" aria-label={`Limits of the focus drive ${limits.low_um} to ${limits.high_um} µm, now at ${at.toFixed(1)} µm`}>
        <span>{limits.low_um}</span>
        <i>{ways.map(([from, to]) => <em key={from} style={{ left: `${part(from)}%`, width: `${part(to) - part(from)}%` }} />)}<b style={{ left: `${part(at)}%` }} /></i>
        <span>{limits.high_um}</span>
      </div>
      {outside ? <p class="wrong">The sweep would leave the limits of the focus drive. Shorten the range, or move the drive first.</p> : null}
    </div>
  );
}

function JobCard({ job, cancel }: { job: Job; cancel: string }): ComponentChild {
  const [asked, setAsked] = useState(false);
  const stop = async (): Promise<void> => {
    setAsked(true);
    try {
      await api.cancelJob(job.id);
    } catch (error) {
      setAsked(false);
      notice(sentence(error));
    }
  };
  return (
    <div class="job" id="job" data-state={job.state}>
      <p><b>{isOn(job) ? jobWords(job) : `${job.kind === "train" ? "Training" : "Calibration"} ${job.state}`}</b></p>
      {isOn(job) ? <progress aria-label={jobWords(job)} max={1} value={share(job)} /> : null}
      {job.error ? <p class="wrong" role="alert">{job.error.problem} {job.error.remedy}</p> : null}
      {job.log ? <details><summary>Log</summary><pre tabIndex={0}>{job.log}</pre></details> : null}
      {isOn(job) ? <button type="button" disabled={asked} onClick={() => void stop()}>{asked ? "Cancelling …" : cancel}</button> : null}
    </div>
  );
}

export function Sweep({ go }: StepProps): ComponentChild {
  const job = useStore(jobs, (all) => all.find(({ kind }) => kind === "calibrate") ?? null);
  const was = useRef(job?.state);
  useEffect(() => {
    if (job?.state === "done" && was.current !== "done") go("judge", job.result?.split("/").pop());
    was.current = job?.state;
  }, [job?.state]);
  return (
    <>
      <div class="step-side">
        <h2>Sweep</h2>
        <p>The focus drive goes through the planes, and the camera takes an image at each. Then the patterns are computed.</p>
        {job ? <JobCard job={job} cancel={job.step === "sweep" ? "Cancel and put the drive back" : "Cancel"} /> : <p class="hint">No sweep has begun.</p>}
        {job && isOn(job) ? null : <button type="button" class="primary" onClick={() => go(job?.state === "done" ? "judge" : "range")}>{job?.state === "done" ? "Next: judge" : "Choose the range"}</button>}
      </div>
      <Picture />
    </>
  );
}

export function Judge({ calibration, go }: StepProps): ComponentChild {
  const [report, setReport] = useState<string | null>(null);
  const [fault, setFault] = useState("");
  useEffect(() => {
    setReport(null);
    setFault("");
    if (calibration) api.report(calibration.id).then(setReport, (error: unknown) => setFault(sentence(error)));
  }, [calibration?.id]);
  if (!calibration) return <div class="step-side"><h2>Judge</h2><p class="hint">No calibration yet.</p><button type="button" class="primary" onClick={() => go("sample")}>Begin</button></div>;
  const used = calibration.beads_used ?? 0;
  return (
    <>
      <div class="step-side">
        <h2>Judge: {calibration.name || calibration.id}</h2>
        <ul class="checks">
          <Check good={calibration.beads_used == null ? null : used >= 3} words={calibration.beads_used == null ? "number of beads not stated" : `${used} beads used, ${(calibration.beads_found ?? used) - used} left out`} />
          <Check good={null} words={`depths ${figure(calibration.z_range_um[0])} to ${figure(calibration.z_range_um[1])} µm, pixel ${figure(calibration.pixel_size_um, 4)} µm, focus at ${figure(calibration.focus_um)} µm`} />
          {calibration.notes.map((note) => <Check key={note} good={false} words={note} />)}
          {calibration.notes.length ? null : <Check good={true} words="no remarks" />}
        </ul>
        <div class="row">
          <button type="button" class="primary" onClick={() => go("train", calibration.id)}>Accept: train</button>
          <button type="button" onClick={() => go("range")}>Repeat the sweep</button>
        </div>
        {fault ? <p class="wrong" role="alert">{fault}</p> : null}
      </div>
      {report === null ? <div class="step-picture placeholder-box">{fault ? "" : "The report is read …"}</div> : <iframe class="report" id="report" title="Report of the calibration" sandbox="" srcdoc={report} />}
    </>
  );
}

export function Train({ calibration, bench, go }: StepProps): ComponentChild {
  const job = useStore(jobs, (all) => all.find(({ kind }) => kind === "train") ?? null);
  const [wanted, setWanted] = useState<{ size: "live" | "full"; minutes: number; name: string }>({ size: "live", minutes: 30, name: "" });
  const [fault, setFault] = useState("");
  const was = useRef(job?.state);
  useEffect(() => {
    if (job?.state === "done" && was.current !== "done") go("use");
    was.current = job?.state;
  }, [job?.state]);
  const start = async (): Promise<void> => {
    setFault("");
    try {
      await api.train({ calibration: calibration!.id, minutes: wanted.minutes, architecture: "cascade", size: wanted.size, seed: 1, name: wanted.name });
    } catch (error) {
      setFault(sentence(error));
    }
  };
  const ofThis = job && (isOn(job) || job.request["calibration"] === calibration?.id) ? job : null;
  return (
    <>
      <div class="step-side">
        <h2>Train{calibration ? `: ${calibration.name || calibration.id}` : ""}</h2>
        <p>A network learns to find depth from frames that are computed from the calibration. Tracking may go on meanwhile.</p>
        {ofThis ? <JobCard job={ofThis} cancel="Cancel the training" /> : null}
        {job && isOn(job) ? null : calibration ? (
          <>
            <label>Name<input type="text" maxLength={200} value={wanted.name} onInput={(event) => setWanted({ ...wanted, name: event.currentTarget.value })} /></label>
            <label>Size
              <select value={wanted.size} onInput={(event) => setWanted({ ...wanted, size: event.currentTarget.value as "live" | "full" })}>
                <option value="live">live: keeps up with a camera</option>
                <option value="full">full: localizes best</option>
              </select>
            </label>
            <label>Minutes<input type="number" min="0.1" step="any" id="minutes" value={wanted.minutes} onInput={(event) => setWanted({ ...wanted, minutes: Number(event.currentTarget.value) })} /></label>
            {fault ? <p class="wrong" role="alert">{fault}</p> : null}
            <button type="button" class="primary" id="start-training" onClick={() => void start()}>Start the training</button>
          </>
        ) : <p class="hint">No calibration yet.</p>}
        {bench.models.some(({ calibration_id }) => calibration_id === calibration?.id) ? <button type="button" onClick={() => go("use")}>Next: use</button> : null}
      </div>
      <div class="step-picture plain">{ofThis ? <Curves log={ofThis.log} /> : null}</div>
    </>
  );
}

/** Loss and scores from the lines of the log of a training. */
export function readLog(log: string): { at: number[]; loss: (number | null)[]; jaccard: (number | null)[] } {
  const found = { at: [] as number[], loss: [] as (number | null)[], jaccard: [] as (number | null)[] };
  for (const line of log.split("\n")) {
    const loss = /loss[ =:]+([\d.]+(?:e-?\d+)?)/i.exec(line)?.[1];
    const jaccard = /jaccard[ =:]+([\d.]+)/i.exec(line)?.[1];
    if (loss === undefined && jaccard === undefined) continue;
    const at = /([\d.]+) (?:min|s)\b/.exec(line)?.[1];
    found.at.push(at === undefined ? found.at.length : Number(at));
    found.loss.push(loss === undefined ? null : Number(loss));
    found.jaccard.push(jaccard === undefined ? null : Number(jaccard));
  }
  return found;
}

function Curves({ log }: { log: string }): ComponentChild {
  const { at, loss, jaccard } = readLog(log);
  if (at.length < 2) return <p class="hint">Curves appear after the first reports of the training.</p>;
  return (
    <>
      <Plot title="Loss" x="report" y="loss" data={[at, loss]} lines={[{ label: "loss", colour: "#2aa5a8" }]} height={150} />
      {jaccard.some((value) => value !== null) ? <Plot title="Score on frames that it was not trained on" x="report" y="Jaccard" data={[at, jaccard]} lines={[{ label: "Jaccard", colour: "#b08cf0" }]} height={150} /> : null}
    </>
  );
}

export function Use({ bench, calibration, pixelUm, reload, go }: StepProps): ComponentChild {
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState("");
  const model = bench.models.find(({ calibration_id }) => calibration_id === calibration?.id) ?? null;
  const present = bench.models.find(({ id }) => id === bench.active) ?? null;
  if (!model) return <div class="step-side"><h2>Use</h2><p class="hint">No model was trained for this calibration yet.</p><button type="button" class="primary" onClick={() => go("train")}>Train</button></div>;
  const use = async (): Promise<void> => {
    setBusy(true);
    setFault("");
    try {
      await api.activate(model.id);
      reload();
    } catch (error) {
      setFault(sentence(error));
    } finally {
      setBusy(false);
    }
  };
  const fits = fitsPixel(model.pixel_size_um, pixelUm);
  return (
    <div class="step-side wide">
      <h2>Use: {model.name || model.id}</h2>
      <ul class="checks">
        <Check good={fits} words={fits === false ? "made for other optics" : fits ? "fits this objective and binning" : "the microscope states no pixel size"} />
        <Check good={null} words={`Jaccard ${figure(score(model, "jaccard"))}; present model ${figure(present ? score(present, "jaccard") : null)}`} />
        <Check good={null} words={`depth error ${figure(score(model, "rmse_axial_um"))} µm; present model ${figure(present ? score(present, "rmse_axial_um") : null)} µm`} />
      </ul>
      <p class="hint">Each score is measured on frames computed from the model's own calibration.</p>
      {fault ? <p class="wrong" role="alert">{fault}</p> : null}
      {model.id === bench.active ? (
        <div class="row"><span class="fit good">✓ active</span><a class="button primary" href="#/live">To the live view</a></div>
      ) : <button type="button" class="primary" id="use-model" disabled={busy} aria-busy={busy} onClick={() => void use()}>{busy ? <i class="spinner" /> : null}Switch now</button>}
    </div>
  );
}
