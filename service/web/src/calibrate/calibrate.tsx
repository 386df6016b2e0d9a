// The calibration in seven steps, and the libraries of calibrations and models.
import type { ComponentChild } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Calibration, Model } from "../api/client";
import { sentence } from "../api/problem";
import { remember, route } from "../app/route";
import { Delete } from "../parts/delete";
import { NameField } from "../parts/name_field";
import { figure, moment } from "../parts/words";
import { api, instrument, jobs, notice } from "../state/app";
import { cameraPixelUm } from "../state/status";
import { useStore } from "../state/store";
import { isOn } from "../parts/jobs";
import { type Bench, fitsPixel, score, stepDue, type StepName, STEPS } from "./step";
import { Focus, Judge, Range, Sample, Sweep, Train, Use } from "./steps";

const TITLES: Record<StepName, string> = { sample: "Sample", focus: "Focus", range: "Range", sweep: "Sweep", judge: "Judge", train: "Train", use: "Use" };

export interface StepProps {
  bench: Bench;
  /** The calibration that is judged and trained for. */
  calibration: Calibration | null;
  pixelUm: number | null;
  go(step: StepName, calibration?: string): void;
  reload(): void;
}

export function Calibrate(): ComponentChild {
  const [calibrations, setCalibrations] = useState<readonly Calibration[] | null>(null);
  const [models, setModels] = useState<readonly Model[]>([]);
  const [fault, setFault] = useState("");
  const all = useStore(jobs, (value) => value);
  const active = useStore(instrument, ({ status }) => status?.active_model_id ?? null);
  const open = useStore(instrument, ({ link }) => link === "open");
  const pixelUm = useStore(instrument, ({ status }) => (status?.microscope ? cameraPixelUm(status.microscope) : null));
  const values = useStore(route, (now) => now.values);
  const ended = all.filter((job) => !isOn(job)).length;
  const reload = (): void => {
    Promise.all([api.calibrations(), api.models()]).then(
      ([{ items }, found]) => {
        setFault("");
        setCalibrations(items);
        setModels(found.items);
      },
      (error: unknown) => setFault(sentence(error)),
    );
  };
  useEffect(() => {
    if (open) reload();
  }, [open, ended, active]);
  useEffect(() => {
    if (values["at"] === "models" && calibrations) document.getElementById("models")?.scrollIntoView();
  }, [values["at"], calibrations !== null]);
  const bench: Bench = { jobs: all, calibrations: calibrations ?? [], models, active };
  const due = stepDue(bench);
  const asked = STEPS.find((name) => name === values["step"]);
  // A job that is on decides, whatever the address says.
  const step = due === "sweep" || due === "train" ? due : (asked ?? due);
  const calibration = bench.calibrations.find(({ id }) => id === values["calibration"]) ?? bench.calibrations[0] ?? null;
  const props: StepProps = { bench, calibration, pixelUm, reload, go: (name, id) => remember({ step: name, at: "", ...(id ? { calibration: id } : {}) }) };
  const View = { sample: Sample, focus: Focus, range: Range, sweep: Sweep, judge: Judge, train: Train, use: Use }[step];
  return (
    <div class="sheet-page">
      <header><h1>Calibrate</h1><span class="aside">once for each objective and binning, about 15 minutes</span></header>
      {fault ? <p class="wrong" role="alert">{fault}</p> : null}
      <ol class="stepper" aria-label="Steps">
        {STEPS.map((name, number) => (
          <li key={name}>
            <button type="button" aria-current={name === step ? "step" : undefined} disabled={(due === "sweep" || due === "train") && name !== step} onClick={() => props.go(name)}>
              <b>{number + 1}</b> {TITLES[name]}
            </button>
          </li>
        ))}
      </ol>
      <section class="card step" aria-label={TITLES[step]} id="step" data-step={step}><View {...props} /></section>
      <Calibrations {...props} />
      <Models {...props} />
    </div>
  );
}

function Fit({ made, pixelUm }: { made: number; pixelUm: number | null }): ComponentChild {
  const fits = fitsPixel(made, pixelUm);
  return fits === null ? <span class="hint">not known</span> : fits ? <span class="fit good">✓ fits</span> : <span class="fit bad">× other optics</span>;
}

function Calibrations({ bench, pixelUm, go, reload }: StepProps): ComponentChild {
  return (
    <section class="card">
      <h2>Calibrations</h2>
      <div class="scroll" tabIndex={0} role="region" aria-label="Calibrations">
        <table class="list">
          <thead><tr><th scope="col">name</th><th scope="col">made</th><th scope="col">pixel, µm</th><th scope="col">depths, µm</th><th scope="col">beads</th><th scope="col">optics</th><th scope="col"><span class="unseen">actions</span></th></tr></thead>
          <tbody>
            {bench.calibrations.map((item) => (
              <tr key={item.id}>
                <th scope="row"><NameField of="calibration" id={item.id} name={item.name} save={async (name) => (await api.changeCalibration(item.id, { name }), reload())} /></th>
                <td>{moment(item.created_at)}</td>
                <td>{figure(item.pixel_size_um, 4)}</td>
                <td>{figure(item.z_range_um[0])} to {figure(item.z_range_um[1])}</td>
                <td>{item.beads_used == null ? "–" : `${item.beads_used} of ${item.beads_found}`}</td>
                <td><Fit made={item.pixel_size_um} pixelUm={pixelUm} /></td>
                <td><div class="row"><button type="button" class="small" onClick={() => go("judge", item.id)}>Report</button><button type="button" class="small" onClick={() => go("train", item.id)}>Train</button><Delete what={`calibration ${item.name || item.id}`} loses="Its report goes with it." remove={() => api.deleteCalibration(item.id)} done={reload} /></div></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {bench.calibrations.length ? null : <p class="hint">None yet. The shipped models need none, where they fit.</p>}
    </section>
  );
}

function Models({ bench, pixelUm, reload }: StepProps): ComponentChild {
  const [busy, setBusy] = useState<string | null>(null);
  const use = async (id: string): Promise<void> => {
    setBusy(id);
    try {
      await api.activate(id);
      notice(`Model ${id} is active.`, false);
      reload();
    } catch (error) {
      notice(sentence(error));
    } finally {
      setBusy(null);
    }
  };
  return (
    <section class="card" id="models">
      <h2>Models</h2>
      <div class="scroll" tabIndex={0} role="region" aria-label="Models">
        <table class="list">
          <thead><tr><th scope="col">name</th><th scope="col">made</th><th scope="col">network</th><th scope="col">pixel, µm</th><th scope="col">depths, µm</th><th scope="col">σ of depth, µm</th><th scope="col">Jaccard</th><th scope="col">optics</th><th scope="col"><span class="unseen">actions</span></th></tr></thead>
          <tbody>
            {bench.models.map((item) => (
              <tr key={item.id}>
                <th scope="row">{item.source === "library" ? <NameField of="model" id={item.id} name={item.name} save={async (name) => (await api.changeModel(item.id, { name }), reload())} /> : item.name || item.id}<br /><span class="aside">{item.source}{item.minutes == null ? "" : `, trained ${Math.round(item.minutes)} min`}</span></th>
                <td>{moment(item.created_at)}</td>
                <td>{item.architecture} {item.size ?? ""}</td>
                <td>{figure(item.pixel_size_um, 4)}</td>
                <td>{figure(item.z_range_um[0])} to {figure(item.z_range_um[1])}</td>
                <td>{figure(score(item, "rmse_axial_um"))}</td>
                <td>{figure(score(item, "jaccard"))}</td>
                <td><Fit made={item.pixel_size_um} pixelUm={pixelUm} /></td>
                <td><div class="row">{item.id === bench.active ? <span class="fit good">✓ active</span> : <button type="button" class="small" disabled={busy !== null} aria-busy={busy === item.id} onClick={() => void use(item.id)}>{busy === item.id ? <i class="spinner" /> : null}Use</button>}{item.source === "library" && item.id !== bench.active ? <Delete what={`model ${item.name || item.id}`} loses="Runs that it analysed keep their tracks." remove={() => api.deleteModel(item.id)} done={reload} /> : null}</div></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
