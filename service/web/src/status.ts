// The engine's status as the feed tells it, and the volume that follows from it.
import type { Latency, Ledger } from "./ledger";
import type { Tracks } from "./tracks";
import { UNKNOWN, type Volume } from "./volume";

type Fields = Record<string, unknown>;

export interface Status {
  state: string;
  epoch: string | null;
  run: string | null;
  runState: string | null;
  recording: boolean;
  ledger: Ledger;
  latency: Latency;
  problem: string | null;
  microscope: string | null;
  model: string | null;
  volume: Volume | null;
}

/** Read the status; what the service does not say is null. */
export function readStatus(message: Fields): Status {
  const run = message["run"];
  const runFields = fields(run);
  const microscope = fields(message["microscope"]);
  const model = fields(message["model"]);
  return {
    state: text(message["state"]) ?? "unknown",
    epoch: text(message["epoch"]),
    run: text(run) ?? text(runFields["id"]) ?? text(message["run_id"]),
    runState: text(runFields["state"]),
    recording: Boolean(message["recording"] ?? runFields["record"] ?? runFields["recording"] ?? false),
    ledger: (message["ledger"] ?? runFields["ledger"] ?? {}) as Ledger,
    latency: (message["latency_ms"] ?? runFields["latency_ms"] ?? {}) as Latency,
    problem: problem(message["problem"]),
    microscope: describe(microscope),
    model: text(message["model"]) ?? text(model["id"]) ?? text(message["model_id"]),
    volume: volume(message, microscope, model),
  };
}

/** The volume that holds what is seen, as long as the service has not said how large it is. */
export function grown(volume: Volume, tracks: Tracks): Volume {
  const extend = (range: readonly [number, number], values: ArrayLike<number>, count: number): [number, number] => {
    let [low, high] = range;
    for (let row = 0; row < count; row++) {
      const value = values[row]!;
      // In steps of a fifth of the range, so that the box does not twitch.
      const step = (high - low) / 5;
      if (value < low) low -= Math.ceil((low - value) / step) * step;
      if (value > high) high += Math.ceil((value - high) / step) * step;
    }
    return [low, high];
  };
  return {
    x: extend(volume.x, tracks.x, tracks.count),
    y: extend(volume.y, tracks.y, tracks.count),
    z: extend(volume.z, tracks.z, tracks.count),
  };
}

function volume(message: Fields, microscope: Fields, model: Fields): Volume | null {
  const pixel = number(message["pixel_size_um"]) ?? number(model["pixel_size_um"]) ?? number(microscope["pixel_size_um"]);
  const settings = fields(microscope["settings"] ?? message["camera"]);
  const roi = settings["roi"];
  const [, , roiWidth, roiHeight] = Array.isArray(roi) ? (roi as number[]) : [];
  const shape = (message["shape"] ?? settings["shape"] ?? microscope["shape"]) as [number, number] | undefined;
  const width = shape?.[1] ?? number(settings["width"]) ?? roiWidth;
  const height = shape?.[0] ?? number(settings["height"]) ?? roiHeight;
  const z = (message["z_range_um"] ?? model["z_range_um"]) as [number, number] | undefined;
  if (!pixel || !width || !height) return null;
  return { x: [0, width * pixel], y: [0, height * pixel], z: z ? [Math.min(z[0], 0), Math.max(z[1], 0)] : UNKNOWN.z };
}

function describe(microscope: Fields): string | null {
  const description = microscope["description"];
  if (typeof description === "string") return description;
  const parts = fields(description);
  return text(parts["name"]) ?? text(parts["camera"]) ?? text(microscope["driver"]) ?? text(microscope["camera"]);
}

function problem(value: unknown): string | null {
  const parts = fields(value);
  const said = [text(parts["problem"]), text(parts["remedy"])].filter(Boolean).join(" ");
  return said || text(value);
}

function fields(value: unknown): Fields {
  return value && typeof value === "object" && !Array.isArray(value) ? (value as Fields) : {};
}

function text(value: unknown): string | null {
  return typeof value === "string" && value ? value : null;
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
