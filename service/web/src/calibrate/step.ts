// Which step of the calibration is due. It follows from jobs, calibrations, models and status, so a reload or a second
// browser lands in the same step.
import type { Calibration, Job, Model } from "../api/client";

export const STEPS = ["sample", "focus", "range", "sweep", "judge", "train", "use"] as const;
export type StepName = (typeof STEPS)[number];

export interface Bench {
  jobs: readonly Job[];
  calibrations: readonly Calibration[];
  models: readonly Model[];
  active: string | null;
}

function on({ state }: Job): boolean {
  return state === "running" || state === "queued";
}

export function stepDue({ jobs, calibrations, models, active }: Bench): StepName {
  if (jobs.some((job) => job.kind === "calibrate" && on(job))) return "sweep";
  if (jobs.some((job) => job.kind === "train" && on(job))) return "train";
  const calibration = calibrations[0];
  if (!calibration) return "sample";
  const model = models.find(({ calibration_id }) => calibration_id === calibration.id);
  if (!model) return "judge";
  return model.id === active ? "sample" : "use";
}

/** Whether the value of a model or a calibration is of the present camera pixel; null: unknown. */
export function fitsPixel(made_um: number, pixel_um: number | null): boolean | null {
  return pixel_um === null ? null : Math.abs(pixel_um / made_um - 1) <= 0.02;
}

/** Planes of a sweep. */
export function planesOf(low: number, high: number, step: number): number {
  return step > 0 && high > low ? Math.floor((high - low) / step + 1e-6) + 1 : 0;
}

/** A score of a model on its validation frames; null where it is not stated. */
export function score({ scores }: Model, name: string): number | null {
  const value = (scores as Record<string, unknown>)[name];
  return typeof value === "number" ? value : null;
}
