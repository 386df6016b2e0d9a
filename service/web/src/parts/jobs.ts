// Jobs in words.
import type { Job } from "../api/client";
import { figure, minutes } from "./words";

export function isOn({ state }: Job): boolean {
  return state === "running" || state === "queued";
}

export function jobWords(job: Job): string {
  const what = job.kind === "focus" ? "Finding the focus" : job.kind === "train" ? "Training" : job.kind === "export" ? "Export" : job.step === "sweep" ? "Sweeping" : "Calibration";
  if (job.state === "queued") return `${what} waits`;
  const progress = job.progress;
  if (!progress || !(progress.total > 0)) return `${what} begins`;
  const left = progress.eta_s == null ? "" : `, ${minutes(progress.eta_s)} left`;
  if (progress.unit === "%") return `${what}, ${Math.round(progress.done)} %${left}`;
  return `${what}, ${progress.unit.replace(/s$/, "")} ${figure(progress.done)} of ${figure(progress.total)}${left}`;
}

export function share(job: Job): number {
  const progress = job.progress;
  return progress && progress.total > 0 ? Math.min(1, progress.done / progress.total) : 0;
}
