// HTTP requests with the access key. Types are those of the API description; errors are `Problem`s.
import type { components } from "./schema";
import { FORBIDDEN, NoAnswer, Problem, problemOf, UNAUTHORIZED } from "./problem";

const KEY = "bathyscope-access-key";
const PATIENCE_MS = 8000;
/** For requests that load a model, move a stage, or wait for the end of a run. */
const LONG_PATIENCE_MS = 125_000;
/** For files: the service itself ends an upload that stops or takes an hour. */
const FILE_PATIENCE_MS = 3_600_000;

type Schemas = components["schemas"];
export type Run = Schemas["Run"];
export type RunRequest = Schemas["RunRequest"];
export type RunList = Schemas["RunList"];
export type Revision = Schemas["Revision"];
export type Job = Schemas["Job"];
export type Calibration = Schemas["CalibrationItem"];
export type CalibrationRequest = Schemas["CalibrationRequest"];
export type Model = Schemas["ListedModel"];
export type ModelList = Schemas["ModelList"];
export type TrainingRequest = Schemas["TrainingRequest"];
/** The page asks for all columns. */
export type TrackItem = Required<Schemas["TrackItem"]>;
export type TrackList = Omit<Schemas["TrackList"], "items"> & { items: TrackItem[] };
export type MeasuresList = Schemas["MeasuresList"];
export type Event = Schemas["Event"];
export type DeviceProperty = Schemas["PropertyItem"];
export type StageMove = Partial<Schemas["StageMove"]>;

/** What is stated with the files of a sweep; what is left out is taken from the files. */
export interface SweepStatement {
  name: string;
  z_range_um?: [number, number];
  pixel_size_um?: number;
  z_step_um?: number;
}

/** A file that the service sends, with the name that it states. */
export interface NamedFile {
  content: Blob;
  name: string;
  /** SHA-256 digest in hexadecimal digits, where the service states it. */
  sha256: string | null;
}

/** An address of this service. Behind a proxy it has the proxy's prefix. */
export function address(path: string): URL {
  return new URL(path, document.baseURI);
}

export function socketAddress(path: string): URL {
  const url = address(path);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

export interface SystemFacts {
  version: string;
  machine: { name: string; system: string; python: string; processors: number; memory_gb: number };
  data_directory: string;
  database: string;
  disk: { total_gb: number; free_gb: number } | null;
  processes: Record<string, { state: string; pid: number | null; restarts: number; failures: number; problem: string | null }>;
}

interface Options {
  body?: unknown;
  /** A file or a form, which is sent as it is. */
  content?: Blob | FormData;
  patienceMs?: number;
  accept?: string;
}

function query(values: Record<string, string | number | boolean | null | undefined>): string {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString()}` : "";
}

export class Api {
  /** Called when the service refuses this page, because the key or the host name is wrong. A retry does not help. */
  onRefusal: (problem: Problem) => void = () => undefined;

  get key(): string | null {
    return sessionStorage.getItem(KEY);
  }

  set key(value: string | null) {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  }

  /** The state of the service. The caller handles a refusal. */
  async enter(): Promise<SystemFacts> {
    return (await this.send("GET", "api/v1/system", {})).json() as Promise<SystemFacts>;
  }

  system = (): Promise<SystemFacts> => this.read("api/v1/system");
  events = (values: { limit?: number; kind?: string; run?: string; cursor?: string } = {}): Promise<{ items: Event[]; next: string | null }> =>
    this.read(`api/v1/events${query(values)}`);

  changeMicroscope = (wanted: Record<string, unknown>): Promise<unknown> => this.ask("PATCH", "api/v1/microscope", wanted, LONG_PATIENCE_MS);
  moveStage = (wanted: StageMove): Promise<unknown> => this.ask("POST", "api/v1/microscope/stage", wanted, LONG_PATIENCE_MS);
  findFocus = (): Promise<Job> => this.ask("POST", "api/v1/microscope/focus", {}, 15_000);
  setLive = (on: boolean, duration_s: number | null): Promise<unknown> =>
    this.ask("POST", "api/v1/microscope/live", { on, ...(duration_s === null ? {} : { duration_s }) }, LONG_PATIENCE_MS);

  properties = (): Promise<{ items: DeviceProperty[] }> => this.read("api/v1/microscope/properties", 60_000);
  changeProperty = (wanted: { device: string; name: string; value: string }): Promise<DeviceProperty> =>
    this.ask("PATCH", "api/v1/microscope/properties", wanted, LONG_PATIENCE_MS);

  runs = (values: { limit?: number; cursor?: string; search?: string; state?: string; order?: string }): Promise<RunList> =>
    this.read(`api/v1/runs${query(values)}`);
  run = (id: string): Promise<Run> => this.read(`api/v1/runs/${encodeURIComponent(id)}`);
  startRun = (wanted: Partial<RunRequest>): Promise<Run> => this.ask("POST", "api/v1/runs", wanted, LONG_PATIENCE_MS);
  stopRun = (id: string): Promise<Run> => this.ask("POST", `api/v1/runs/${encodeURIComponent(id)}/stop`, undefined, LONG_PATIENCE_MS);
  changeRun = (id: string, change: { name?: string; notes?: string }): Promise<Run> => this.ask("PATCH", `api/v1/runs/${encodeURIComponent(id)}`, change);
  deleteRun = (id: string): Promise<unknown> => this.ask("DELETE", `api/v1/runs/${encodeURIComponent(id)}`);
  revisions = (id: string): Promise<{ items: Revision[] }> => this.read(`api/v1/runs/${encodeURIComponent(id)}/revisions`);
  tracks = (id: string, values: Record<string, string | number | null | undefined>): Promise<TrackList> =>
    this.read(`api/v1/runs/${encodeURIComponent(id)}/tracks${query(values)}`, 60_000);
  measures = (id: string, values: Record<string, string | number | null | undefined>): Promise<MeasuresList> =>
    this.read(`api/v1/runs/${encodeURIComponent(id)}/measures${query(values)}`, 60_000);
  frame = async (id: string, frame: number): Promise<Blob> => (await this.frameWithContrast(id, frame)).content;
  frameWithContrast = async (id: string, frame: number): Promise<{ content: Blob; low: number; high: number }> => {
    const response = await this.guarded("GET", `api/v1/runs/${encodeURIComponent(id)}/frames/${frame}`, { accept: "image/png" });
    const number = (name: string, other: number): number => Number(response.headers.get(name) ?? other);
    return { content: await response.blob(), low: number("Bathyscope-Low-Adu", 0), high: number("Bathyscope-High-Adu", 255) };
  };
  export = (id: string, wanted: { format: string; revision?: number; measures?: boolean; tracks?: number[] }): Promise<Job> =>
    this.ask("POST", `api/v1/runs/${encodeURIComponent(id)}/export`, wanted);

  job = (id: string): Promise<Job> => this.read(`api/v1/jobs/${encodeURIComponent(id)}`);
  jobs = (limit = 20): Promise<{ items: Job[] }> => this.read(`api/v1/jobs${query({ limit })}`);
  cancelJob = (id: string): Promise<Job> => this.ask("DELETE", `api/v1/jobs/${encodeURIComponent(id)}`);
  jobResult = (id: string): Promise<NamedFile> => this.file(`api/v1/jobs/${encodeURIComponent(id)}/result`, "result");

  calibrations = (): Promise<{ items: Calibration[] }> => this.read("api/v1/calibrations?limit=100");
  calibrate = (wanted: CalibrationRequest): Promise<Job> => this.ask("POST", "api/v1/calibrations", wanted, 15_000);
  report = async (id: string): Promise<string> =>
    (await this.guarded("GET", `api/v1/calibrations/${encodeURIComponent(id)}/report`, { accept: "text/html" })).text();
  sweepOfFiles = (files: readonly File[], stated: SweepStatement): Promise<Job> => {
    const form = new FormData();
    // As text: a browser gives a Blob the name of a file, and the service takes it for one.
    form.append("request", JSON.stringify(stated));
    for (const file of files) form.append("sweep", file);
    return this.bring("api/v1/calibrations", form);
  };
  models = (): Promise<ModelList> => this.read("api/v1/models?limit=100");
  modelFile = (id: string): Promise<NamedFile> => this.file(`api/v1/models/${encodeURIComponent(id)}/archive`, "model.zip");
  importModel = (file: Blob, sha256: string): Promise<{ id: string }> => this.bring(`api/v1/models${query({ sha256 })}`, new Blob([file], { type: "application/zip" }));
  train = (wanted: TrainingRequest): Promise<Job> => this.ask("POST", "api/v1/models", wanted);
  changeCalibration = (id: string, change: { name: string }): Promise<Calibration> => this.ask("PATCH", `api/v1/calibrations/${encodeURIComponent(id)}`, change);
  deleteCalibration = (id: string): Promise<unknown> => this.ask("DELETE", `api/v1/calibrations/${encodeURIComponent(id)}`);
  changeModel = (id: string, change: { name: string }): Promise<unknown> => this.ask("PATCH", `api/v1/models/${encodeURIComponent(id)}`, change);
  deleteModel = (id: string): Promise<unknown> => this.ask("DELETE", `api/v1/models/${encodeURIComponent(id)}`);
  activate = (id: string): Promise<unknown> => this.ask("PUT", "api/v1/models/active", { id }, LONG_PATIENCE_MS);

  private async read<Content>(path: string, patienceMs = PATIENCE_MS): Promise<Content> {
    return (await this.guarded("GET", path, { patienceMs })).json() as Promise<Content>;
  }

  private async ask<Content>(method: string, path: string, body?: unknown, patienceMs = PATIENCE_MS): Promise<Content> {
    const response = await this.guarded(method, path, { body, patienceMs });
    return (response.status === 204 ? null : await response.json()) as Content;
  }

  /** Send files. */
  private async bring<Content>(path: string, content: Blob | FormData): Promise<Content> {
    return (await this.guarded("POST", path, { content, patienceMs: FILE_PATIENCE_MS })).json() as Promise<Content>;
  }

  private async file(path: string, otherName: string): Promise<NamedFile> {
    const response = await this.guarded("GET", path, { accept: "*/*", patienceMs: LONG_PATIENCE_MS });
    const name = /filename="?([^";]+)"?/.exec(response.headers.get("Content-Disposition") ?? "")?.[1] ?? otherName;
    const sha256 = /^"([0-9a-f]{64})"$/.exec(response.headers.get("ETag") ?? "")?.[1] ?? null;
    return { content: await response.blob(), name, sha256 };
  }

  private async guarded(method: string, path: string, options: Options): Promise<Response> {
    try {
      return await this.send(method, path, options);
    } catch (error) {
      if (error instanceof Problem && (error.status === UNAUTHORIZED || isHostRefusal(error))) this.onRefusal(error);
      throw error;
    }
  }

  private async send(method: string, path: string, { body, content, patienceMs = PATIENCE_MS, accept }: Options): Promise<Response> {
    const headers: Record<string, string> = { Accept: accept ? `${accept}, application/problem+json;q=0.5` : "application/json, application/problem+json" };
    if (this.key) headers["Authorization"] = `Bearer ${this.key}`;
    const init: RequestInit = { method, headers, cache: "no-store", signal: AbortSignal.timeout(patienceMs) };
    if (body !== undefined) {
      headers["Content-Type"] = "application/json";
      init.body = JSON.stringify(body);
    }
    // The browser states the type of a file and the boundary of a form.
    if (content !== undefined) init.body = content;
    let response: Response;
    try {
      response = await fetch(address(path), init);
    } catch (error) {
      if (error instanceof DOMException && error.name === "TimeoutError") throw new NoAnswer(path);
      throw error;
    }
    if (response.ok) return response;
    throw problemOf(response, await response.json().catch(() => null));
  }
}

/** A refusal of the host name concerns every request; one of the role of the key concerns a single request. */
function isHostRefusal({ status, kind }: Problem): boolean {
  return status === FORBIDDEN && kind !== "role";
}
