// The status of the engine from the feed, and the imaged volume that is computed from it.
import type { Latency, Ledger } from "./ledger";
import type { Tracks } from "./tracks";
import { UNKNOWN, type Volume } from "./volume";

/** The fields of a status message that this page shows. */
export interface StatusMessage {
  type: "status";
  state: string;
  epoch?: string;
  problem?: string | null;
  remedy?: string | null;
  run_id?: string | null;
  record?: boolean;
  model_id?: string | null;
  pixel_size_um?: number | null;
  z_range_um?: [number, number] | null;
  ledger?: Ledger | null;
  fitted_frames?: Record<string, number> | null;
  latency_ms?: Latency | null;
  microscope?: {
    description?: { camera: string; driver: string; sensor_shape: [number, number] };
    camera?: { exposure_s: number; roi: { width: number; height: number } | null; binning: number };
    stage?: { stage_um: number | null };
  };
}

/** Problem and remedy in one text; null when there is no problem. */
export function problemOf(status: StatusMessage): string | null {
  return status.problem ? `${status.problem} ${status.remedy ?? ""}`.trim() : null;
}

/** Share of the frames by how much of the fit of their image was made; null without a fit. */
function fitOf(counts: Record<string, number> | null | undefined): string | null {
  const known = Object.entries(counts ?? {}).filter(([, count]) => count > 0);
  const all = known.reduce((sum, [, count]) => sum + count, 0);
  const shares = known.map(([degree, count]) => `${degree} ${percent(count / all)}`);
  return all ? `images fitted: ${shares.join(", ")}` : null;
}

/** A share in words: all of it and none of it are said of exactly that only. */
function percent(share: number): string {
  if (share < 0.001) return "< 0.1 %";
  if (share < 1 && share > 0.999) return "> 99.9 %";
  return `${+(100 * share).toFixed(1)} %`;
}

/** Camera, exposure, focus drive, model and fit, for the footer of the page. */
export function describe({ microscope, model_id, fitted_frames }: StatusMessage): string {
  const { description, camera, stage } = microscope ?? {};
  const parts = [
    description && `${description.camera} (${description.driver})`,
    camera && `exposure ${+(camera.exposure_s * 1000).toPrecision(4)} ms`,
    stage?.stage_um != null && `focus drive ${stage.stage_um.toFixed(2)} µm`,
    model_id && `model ${model_id}`,
    fitOf(fitted_frames),
  ];
  return parts.filter(Boolean).join(" · ");
}

/** Field of view of the camera and depth range of the model; null while they are unknown. */
export function volumeOf(status: StatusMessage): Volume | null {
  const { description, camera } = status.microscope ?? {};
  const pixel = status.pixel_size_um;
  if (!pixel || !description || !camera) return null;
  const width = camera.roi?.width ?? Math.floor(description.sensor_shape[1] / camera.binning);
  const height = camera.roi?.height ?? Math.floor(description.sensor_shape[0] / camera.binning);
  const [low, high] = status.z_range_um ?? UNKNOWN.z;
  // The volume includes the focal plane, also when the model's range does not.
  return { x: [0, width * pixel], y: [0, height * pixel], z: [Math.min(low, 0), Math.max(high, 0)] };
}

/** A volume that contains all tracks. It is used until the service has sent the size of the field. */
export function grown(volume: Volume, tracks: Tracks): Volume {
  const extend = (range: readonly [number, number], values: ArrayLike<number>): [number, number] => {
    let [low, high] = range;
    // In steps of a fifth of the range, so that the box seldom changes.
    const step = (high - low) / 5;
    for (let row = 0; row < tracks.count; row++) {
      const value = values[row]!;
      if (value < low) low -= Math.ceil((low - value) / step) * step;
      if (value > high) high += Math.ceil((value - high) / step) * step;
    }
    return [low, high];
  };
  return { x: extend(volume.x, tracks.x), y: extend(volume.y, tracks.y), z: extend(volume.z, tracks.z) };
}
