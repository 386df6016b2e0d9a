// Camera, light, stage and model. A field shows the value that was read back; a refusal stands under its field.
import type { ComponentChild } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useKeys } from "../app/help";
import { pointed } from "../app/top_bar";
import { isOn, jobWords } from "../parts/jobs";
import { figure } from "../parts/words";
import { api, instrument, jobs } from "../state/app";
import { cameraPixelUm, frameSize, type Limits, type MicroscopeFacts, misfit, recordingGbPerHour } from "../state/status";
import { useModelName } from "../state/models";
import { sameContent, useStore } from "../state/store";
import { Presets, Properties } from "./devices";
import { choosing } from "./image_pane";
import { Group, useChange } from "./parts";

export function Controls(): ComponentChild {
  const facts = useStore(instrument, ({ status }) => status?.microscope ?? null, sameContent);
  const owner = useStore(instrument, ({ status }) => status?.owner ?? status?.microscope?.owner ?? null, sameContent);
  if (!facts?.description) return <section class="controls" aria-label="Controls" data-pane="controls"><p class="hint">No microscope is open.</p></section>;
  const held = owner !== null && owner.kind !== "live";
  const what = owner?.kind === "run" ? "A run" : owner?.kind === "calibration" ? "A calibration" : `The ${owner?.kind ?? ""}`;
  return (
    <section class="controls" aria-label="Controls" data-pane="controls">
      {held ? <p class="held" id="held">{what} has the microscope: stop it first to change camera, light or stage.</p> : null}
      <Camera facts={facts} held={held} />
      <Light facts={facts} held={held} />
      <Focus facts={facts} held={held} />
      <Place facts={facts} held={held} />
      <Presets facts={facts} held={held} />
      <ModelPart />
      <Properties held={held} />
    </section>
  );
}

/** Whether something has the microscope that a change would have to wait for. */
function useScope(): { facts: MicroscopeFacts | null; held: boolean } {
  const facts = useStore(instrument, ({ status }) => status?.microscope ?? null, sameContent);
  const owner = useStore(instrument, ({ status }) => (status?.owner ?? status?.microscope?.owner ?? null)?.kind ?? null);
  return { facts, held: owner !== null && owner !== "live" };
}

/** The camera alone, for a step of the calibration. */
export function CameraPart(): ComponentChild {
  const { facts, held } = useScope();
  return facts?.description ? <Camera facts={facts} held={held} /> : null;
}

/** The focus drive alone. */
export function FocusPart(): ComponentChild {
  const { facts, held } = useScope();
  return facts?.description ? <Focus facts={facts} held={held} /> : null;
}

interface PartProps {
  facts: MicroscopeFacts;
  held: boolean;
}

function Camera({ facts, held }: PartProps): ComponentChild {
  const { fault, busy, change } = useChange();
  const exposure = useRef<HTMLInputElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const remedy = useStore(pointed, (value) => value);
  const choosingNow = useStore(choosing, (value) => value !== null);
  useEffect(() => {
    if (remedy === null) return;
    const at = remedy === "roi" ? field.current : exposure.current;
    at?.scrollIntoView({ block: "center" });
    at?.focus();
    pointed.set(null);
  }, [remedy]);
  const camera = facts.camera!;
  const size = frameSize(facts)!;
  const ms = camera.exposure_s * 1000;
  const expose = (value: number): Promise<void> => change(() => api.changeMicroscope({ exposure_s: value / 1000 }));
  const region = (roi: readonly number[] | null): Promise<void> => change(() => api.changeMicroscope({ roi }));
  const [x, y] = [camera.roi?.x ?? 0, camera.roi?.y ?? 0];
  const gb = recordingGbPerHour(facts);
  return (
    <Group name="Camera" fault={fault} busy={busy}>
      <label>Exposure, ms
        <div class="row">
          <input type="range" min={-1} max={3.5} step={0.01} value={Math.log10(ms)} disabled={held} aria-valuetext={`${figure(ms)} ms`} onChange={(event) => void expose(+(10 ** Number(event.currentTarget.value)).toPrecision(2))} />
          <Field refTo={exposure} value={+ms.toPrecision(4)} disabled={held} min={0.001} send={expose} label="Exposure, ms" />
        </div>
      </label>
      <label>Binning
        <select value={String(camera.binning)} disabled={held} onChange={(event) => void change(() => api.changeMicroscope({ binning: Number(event.currentTarget.value) }))}>
          {[1, 2, 4, 8].map((factor) => <option key={factor} value={String(factor)}>{factor} × {factor}</option>)}
        </select>
      </label>
      <label>Region: left, top, width, height
        <RoiField refTo={field} value={[x, y, size.width, size.height]} disabled={held} send={region} />
      </label>
      <div class="row">
        <button type="button" class="small" disabled={held} aria-pressed={choosingNow} onClick={() => choosing.set(choosingNow ? null : ([left, top, width, height]) => void region([x + left, y + top, width, height]))}>Drag on image</button>
        <button type="button" class="small" disabled={held || camera.roi === null} onClick={() => void region(null)}>Whole sensor</button>
      </div>
      <p class="hint">{facts.frame_period_s ? `${figure(1 / facts.frame_period_s)} frames/s` : ""}{gb ? ` · a recording takes ${figure(gb, 2)} GB/h` : ""}</p>
    </Group>
  );
}

interface FieldProps {
  value: number;
  disabled: boolean;
  label: string;
  min?: number;
  send: (value: number) => Promise<void>;
  refTo?: { current: HTMLInputElement | null };
}

/** A number that is sent with Enter or when the field is left; then it shows what was read back. */
function Field({ value, disabled, label, min, send, refTo }: FieldProps): ComponentChild {
  const [text, setText] = useState<string | null>(null);
  const done = (): void => {
    if (text === null) return;
    const wanted = Number(text.replace(",", "."));
    setText(null);
    if (text.trim() !== "" && Number.isFinite(wanted) && wanted !== value) void send(wanted);
  };
  return (
    <input
      ref={refTo ?? null} class="number" inputMode="decimal" aria-label={label} disabled={disabled} data-min={min} value={text ?? String(value)}
      onInput={(event) => setText(event.currentTarget.value)} onBlur={done}
      onKeyDown={(event) => {
        if (event.key === "Enter") done();
        if (event.key === "Escape") setText(null);
      }}
    />
  );
}

function RoiField({ value, disabled, send, refTo }: { value: number[]; disabled: boolean; send: (roi: number[]) => Promise<void>; refTo: { current: HTMLInputElement | null } }): ComponentChild {
  const [text, setText] = useState<string | null>(null);
  const [wrong, setWrong] = useState(false);
  const done = (): void => {
    if (text === null) return;
    const numbers = text.split(/[\s,;x]+/).filter(Boolean).map(Number);
    const good = numbers.length === 4 && numbers.every((number) => Number.isInteger(number) && number >= 0);
    setWrong(!good);
    if (!good) return;
    setText(null);
    void send(numbers);
  };
  return (
    <>
      <input
        ref={refTo} value={text ?? value.join(", ")} disabled={disabled} aria-invalid={wrong} aria-label="Region: left, top, width, height, pixels"
        onInput={(event) => setText(event.currentTarget.value)} onBlur={done} onKeyDown={(event) => event.key === "Enter" && done()}
      />
      {wrong ? <span class="wrong">Four whole numbers: left, top, width, height.</span> : null}
    </>
  );
}

function Light({ facts, held }: PartProps): ComponentChild {
  const { fault, busy, change } = useChange();
  const light = facts.light;
  if (!light || (light.shutter_open === null && !light.channels.length)) return null;
  return (
    <Group name="Light" fault={fault} busy={busy}>
      {light.channels.length ? (
        <label>Channel
          <select value={light.channel ?? ""} disabled={held} onChange={(event) => void change(() => api.changeMicroscope({ channel: event.currentTarget.value }))}>
            {light.channel === null ? <option value="">not set</option> : null}
            {light.channels.map((channel) => <option key={channel}>{channel}</option>)}
          </select>
        </label>
      ) : null}
      {light.shutter_open === null ? null : (
        <label class="check">
          <input type="checkbox" checked={light.shutter_open} disabled={held} onChange={(event) => void change(() => api.changeMicroscope({ shutter: event.currentTarget.checked ? "open" : "closed" }))} />
          Shutter {light.automatic ? "follows the camera" : light.shutter_open ? "open" : "closed"}
        </label>
      )}
    </Group>
  );
}

const STEPS = [10, 1, 0.1] as const;
/** The keys move hardware, so they count only where the user means the focus. */
const FOCUS_KEYS = ".image, .focus-part";

function Focus({ facts, held }: PartProps): ComponentChild {
  const { fault, busy, change } = useChange();
  const [step, setStep] = useState(1);
  const at = facts.stage?.stage_um ?? null;
  const limits = facts.stage?.limits ?? null;
  const by = (um: number): void => {
    if (!held && at !== null) void change(() => api.moveStage({ by_um: um }));
  };
  useKeys([
    { key: "PageUp", shown: "PgUp", words: "Focus drive up by the last step, while picture or focus has the keys", within: FOCUS_KEYS, run: () => by(step) },
    { key: "PageDown", shown: "PgDn", words: "Focus drive down by the last step, likewise", within: FOCUS_KEYS, run: () => by(-step) },
  ]);
  if (at === null || !limits) return null;
  const drives = Object.keys(facts.stage?.focus_drives ?? {});
  return (
    <Group name="Focus" fault={fault} busy={busy} kind="focus-part">
      {drives.length > 1 ? (
        <label>Drive
          <select value={facts.description?.focus_stage ?? ""} disabled={held} onChange={(event) => void change(() => api.changeMicroscope({ focus_drive: event.currentTarget.value }))}>
            {drives.map((drive) => <option key={drive}>{drive}</option>)}
          </select>
        </label>
      ) : null}
      <label>Position, µm<Field value={+at.toFixed(3)} disabled={held} label="Position of the focus drive, µm" send={(value) => change(() => api.moveStage({ stage_um: value }))} /></label>
      <LimitBar at={at} limits={limits} />
      <div class="steps">
        {[...STEPS.map((um) => -um), ...[...STEPS].reverse()].map((um) => (
          <button key={um} type="button" class="small" disabled={held} aria-label={`Move the focus drive by ${um} µm`} onClick={() => { setStep(Math.abs(um)); by(um); }}>{um > 0 ? "+" : "−"}{Math.abs(um)}</button>
        ))}
      </div>
      <FindFocus held={held} />
      <p class="hint">PgUp and PgDn here or on the picture: {step} µm</p>
    </Group>
  );
}

/** The autofocus by software: a job that searches the sharpest image, and returns the drive when it is cancelled. */
function FindFocus({ held }: { held: boolean }): ComponentChild {
  const { fault, busy, change } = useChange();
  const job = useStore(jobs, (all) => all.find(({ kind }) => kind === "focus") ?? null);
  const on = job !== null && isOn(job);
  return (
    <>
      <button type="button" class="small" disabled={busy || (held && !on)} onClick={() => void change(() => (on ? api.cancelJob(job.id) : api.findFocus()))}>
        {on ? "Cancel the search" : "Find focus"}
      </button>
      {on ? <p class="hint">{jobWords(job)}</p> : null}
      {fault || job?.error ? <p class="wrong" role="alert">{fault || `${job!.error!.problem} ${job!.error!.remedy}`}</p> : null}
    </>
  );
}

function LimitBar({ at, limits }: { at: number; limits: Limits }): ComponentChild {
  const part = ((at - limits.low_um) / (limits.high_um - limits.low_um)) * 100;
  return (
    <div class="limits" role="img" aria-label={`At ${at.toFixed(1)} µm between the limits ${limits.low_um} and ${limits.high_um} µm`}>
      <span>{limits.low_um}</span>
      <i><b style={{ left: `${Math.min(100, Math.max(0, part))}%` }} /></i>
      <span>{limits.high_um}</span>
    </div>
  );
}

function Place({ facts, held }: PartProps): ComponentChild {
  const { fault, busy, change } = useChange();
  const stage = facts.stage;
  if (stage?.x_um == null || stage.y_um == null) return null;
  return (
    <Group name="Stage" fault={fault} busy={busy}>
      <div class="row">
        <label>x, µm<Field value={+stage.x_um.toFixed(2)} disabled={held} label="Stage x, µm" send={(value) => change(() => api.moveStage({ x_um: value }))} /></label>
        <label>y, µm<Field value={+stage.y_um.toFixed(2)} disabled={held} label="Stage y, µm" send={(value) => change(() => api.moveStage({ y_um: value }))} /></label>
      </div>
      {stage.x_limits ? <LimitBar at={stage.x_um} limits={stage.x_limits} /> : null}
      {stage.y_limits ? <LimitBar at={stage.y_um} limits={stage.y_limits} /> : null}
    </Group>
  );
}

function ModelPart(): ComponentChild {
  const model = useStore(instrument, ({ status }) => (status ? { id: status.model_id ?? null, range: status.z_range_um ?? null, wrong: misfit(status), pixel: status.microscope ? cameraPixelUm(status.microscope) : null } : null), sameContent);
  const name = useModelName(model?.id);
  if (!model?.id) return null;
  return (
    <Group name="Model">
      <p class="value" title={model.id}>{name}</p>
      <p class="hint">{model.range ? `depth ${model.range[0]} to ${model.range[1]} µm` : ""}</p>
      <p class={model.wrong ? "fit bad" : "fit good"}>{model.wrong ? `× ${model.wrong}` : model.pixel === null ? "The microscope states no pixel size; the fit is not checked." : "✓ fits this objective"}</p>
      <a class="button small" href="#/calibrate?at=models">Change</a>
    </Group>
  );
}
