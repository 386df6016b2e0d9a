// The calibration in seven steps, and the libraries of calibrations and models.
import type { ComponentChild } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Calibration } from "../api/client";
import { sentence } from "../api/problem";
import { remember, route } from "../app/route";
import { api, instrument, jobs } from "../state/app";
import { models as knownModels, setModels } from "../state/models";
import { cameraPixelUm } from "../state/status";
import { useStore } from "../state/store";
import { isOn } from "../parts/jobs";
import { Calibrations, Models } from "./libraries";
import { type Bench, stepDue, type StepName, STEPS } from "./step";
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
  const models = useStore(knownModels, (value) => value);
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
