// The status of the engine, as the feed sends it four times a second, and what follows from it.
import { UNKNOWN, type Volume } from "../scene/volume";

export type Counts = Record<string, number | null | undefined>;
export type Percentiles = Partial<Record<"p50" | "p95" | "p99" | "max", number | null>>;
export interface Limits {
  low_um: number;
  high_um: number;
  max_step_um?: number;
}
export interface Stage {
  stage_um: number | null;
  limits: Limits | null;
  x_um: number | null;
  y_um: number | null;
  x_limits: Limits | null;
  y_limits: Limits | null;
  /** Focus drives to choose from, with their limits. */
  focus_drives?: Record<string, Limits | null>;
}
export interface Roi {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface MicroscopeFacts {
  state?: string;
  owner?: { kind: string; id: string } | null;
  problem?: string | null;
  remedy?: string | null;
  description?: {
    camera: string;
    driver: string;
    sensor_shape: [number, number];
    bit_depth: number;
    pixel_size_um: number | null;
    focus_stage: string | null;
    xy_stage?: string | null;
    devices?: Record<string, string>;
  };
  camera?: { exposure_s: number; roi: Roi | null; binning: number };
  frame_period_s?: number;
  light?: { shutter_open: boolean | null; channel: string | null; channels: string[]; automatic: boolean };
  stage?: Stage;
  presets?: { name: string; presets: string[]; current: string | null }[];
}

/** The fields of a status message that this page uses. */
export interface Status {
  type: "status";
  state: string;
  ready?: boolean;
  epoch?: string;
  problem?: string | null;
  remedy?: string | null;
  owner?: { kind: string; id: string } | null;
  run_id?: string | null;
  record?: boolean;
  recorder?: "off" | "writing" | "stopped";
  model_id?: string | null;
  active_model_id?: string | null;
  pixel_size_um?: number | null;
  z_range_um?: [number, number] | null;
  model_fit?: { fits: boolean; problem?: string | null; remedy?: string | null } | null;
  ledger?: Counts | null;
  stages?: Record<string, Record<string, number>> | null;
  fitted_frames?: Record<string, number> | null;
  latency_ms?: Record<string, Percentiles> | null;
  fps?: number | null;
  microscope?: MicroscopeFacts;
  process?: { pid: number; cpu_percent: number; rss_mb: number; threads: number };
}

/** Problem and remedy in one text. */
export function problemWords({ problem, remedy }: Status): string {
  return `${problem ?? ""} ${remedy ?? ""}`.trim();
}

const PIXEL_TOLERANCE = 0.02;

/** Camera pixel at the sample with the present binning, µm; null where the microscope does not state it. */
export function cameraPixelUm({ description, camera }: MicroscopeFacts): number | null {
  return description?.pixel_size_um ? description.pixel_size_um * (camera?.binning ?? 1) : null;
}

/** Why the active model cannot be used with the present optics; null when it can, or while that is unknown. */
export function misfit(status: Status): string | null {
  if (status.model_fit) return status.model_fit.fits ? null : `${status.model_fit.problem ?? "The model does not fit."} ${status.model_fit.remedy ?? ""}`.trim();
  const [pixel, made] = [status.microscope ? cameraPixelUm(status.microscope) : null, status.pixel_size_um];
  if (!pixel || !made || Math.abs(pixel / made - 1) <= PIXEL_TOLERANCE) return null;
  return `The camera has ${+pixel.toPrecision(4)} µm per pixel at the sample; the model was made for ${+made.toPrecision(4)} µm.`;
}

/** Size of a frame, pixels; null while it is unknown. */
export function frameSize({ description, camera }: MicroscopeFacts): { width: number; height: number } | null {
  if (!description || !camera) return null;
  return {
    width: camera.roi?.width ?? Math.floor(description.sensor_shape[1] / camera.binning),
    height: camera.roi?.height ?? Math.floor(description.sensor_shape[0] / camera.binning),
  };
}

/** Field of view of the camera and depth range of the model; null while they are unknown. */
export function volumeOf(status: Status): Volume | null {
  const size = status.microscope ? frameSize(status.microscope) : null;
  const pixel = status.pixel_size_um ?? (status.microscope ? cameraPixelUm(status.microscope) : null);
  if (!pixel || !size) return null;
  const [low, high] = status.z_range_um ?? UNKNOWN.z;
  // The volume includes the focal plane, also when the model's range does not.
  return { x: [0, size.width * pixel], y: [0, size.height * pixel], z: [Math.min(low, 0), Math.max(high, 0)] };
}

/** What a recording costs at the present frame rate, GB an hour; null while it is unknown. */
export function recordingGbPerHour(facts: MicroscopeFacts): number | null {
  const size = frameSize(facts);
  if (!size || !facts.frame_period_s) return null;
  return (size.width * size.height * 2 * 3600) / facts.frame_period_s / 1e9;
}
