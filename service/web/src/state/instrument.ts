// The state of the instrument as this page knows it: one value, changed by `after` only, and read by `phaseOf`.
//
// `after` is a pure function of the value before and of what happened. The clock comes in with each happening, so every
// state can be made by a test.
import { misfit, type Status } from "./status";

export const STALE_MS = 1000;
/** The engine sends its status every 250 ms, through the API. */
export const SILENT_MS = 2500;
const CONNECTING_MS = 3000;
const EMPTY_MS = 5000;
const SLOW_MS = 500;
const LOSS_WINDOW_MS = 10_000;
const LOSS_SHARE = 0.01;
const LOSS_FEWEST = 3;

export type Link = "connecting" | "open" | "lost" | "locked" | "refused";

interface LossMark {
  at: number;
  exposed: number;
  gone: number;
}

export interface Instrument {
  now: number;
  begun: number;
  link: Link;
  linkSince: number;
  reason: string | null;
  status: Status | null;
  statusAt: number;
  awaySince: number | null;
  tracksAt: number | null;
  tracks: number;
  foundAt: number | null;
  lateMs: number | null;
  marks: LossMark[];
  pending: { what: "start" | "stop" | "focus" | "camera" | "model"; since: number } | null;
  epoch: string | null;
  interrupted: { run: string; at: number } | null;
  ended: string | null;
  run: string | null;
}

export type Happening =
  | { kind: "link"; now: number; link: Link; reason?: string | null }
  | { kind: "status"; now: number; status: Status }
  | { kind: "tracks"; now: number; run: string | null; count: number; lateMs: number }
  | { kind: "pending"; now: number; what: NonNullable<Instrument["pending"]>["what"] | null }
  | { kind: "dismiss"; now: number; what: "interrupted" | "ended" }
  | { kind: "tick"; now: number };

export function initial(now: number): Instrument {
  return {
    now, begun: now, link: "connecting", linkSince: now, reason: null, status: null, statusAt: now, awaySince: null, tracksAt: null, tracks: 0,
    foundAt: null, lateMs: null, marks: [], pending: null, epoch: null, interrupted: null, ended: null, run: null,
  }; // prettier-ignore
}

export function after(state: Instrument, happening: Happening): Instrument {
  const { now } = happening;
  const next = { ...state, now };
  switch (happening.kind) {
    case "link":
      if (happening.link !== state.link) next.linkSince = now;
      next.link = happening.link;
      next.reason = happening.reason ?? null;
      return next;
    case "status":
      return afterStatus(next, happening.status);
    case "tracks":
      if (happening.run !== state.run) next.foundAt = null;
      next.tracksAt = now;
      next.tracks = happening.count;
      next.lateMs = happening.lateMs;
      // The first message begins the wait for a track.
      if (happening.count > 0 || next.foundAt === null) next.foundAt = now;
      return next;
    case "pending":
      next.pending = happening.what === null ? null : { what: happening.what, since: now };
      return next;
    case "dismiss":
      next[happening.what] = null;
      return next;
    case "tick":
      return next;
  }
}

function afterStatus(next: Instrument, status: Status): Instrument {
  const { now } = next;
  const run = status.run_id ?? null;
  const newEngine = status.epoch !== undefined && next.epoch !== null && status.epoch !== next.epoch;
  if (newEngine && next.run !== null) next.interrupted = { run: next.run, at: now };
  else if (next.run !== null && run === null && status.epoch !== undefined) next.ended = next.run;
  if (status.epoch !== undefined) {
    if (run !== next.run || newEngine) {
      next.marks = [];
      next.tracksAt = next.foundAt = next.lateMs = null;
      next.tracks = 0;
      if (run !== null) next.ended = null;
    }
    next.epoch = status.epoch;
    next.run = run;
  }
  next.awaySince = isAway(status) ? (next.awaySince ?? now) : null;
  next.status = status;
  next.statusAt = now;
  const { exposed, lost, skipped } = status.ledger ?? {};
  if (run !== null && exposed != null) {
    const mark = { at: now, exposed, gone: (lost ?? 0) + (skipped ?? 0) };
    next.marks = [...next.marks.filter(({ at }) => at > now - LOSS_WINDOW_MS), mark];
  }
  return next;
}

function isAway({ state }: Status): boolean {
  return state.endsWith("away");
}

/** Frames that were lost or skipped in the last ten seconds, and all that were exposed then. */
export function recentLoss({ marks }: Instrument): { gone: number; exposed: number } {
  const [first, last] = [marks[0], marks.at(-1)];
  return first && last ? { gone: last.gone - first.gone, exposed: last.exposed - first.exposed } : { gone: 0, exposed: 0 };
}

export type Phase =
  | "connecting" | "locked" | "refused" | "silent" | "engine away" | "microscope away" | "model away" | "engine starting" | "run waits"
  | "sweeping" | "misfit" | "ready" | "starting" | "stopping" | "waiting" | "recording stopped" | "overloaded" | "stale" | "empty" | "tracking"; // prettier-ignore

/** The one state that is shown; where several hold, the worst. */
export function phaseOf(state: Instrument): Phase {
  const { now, link, status, pending } = state;
  if (link === "locked") return "locked";
  if (link === "refused") return "refused";
  if (!status) return link === "lost" || now - state.begun > CONNECTING_MS ? "silent" : "connecting";
  if (now - state.statusAt > SILENT_MS) return "silent";
  if (status.state === "engine away") return "engine away";
  if (status.state === "microscope away") return "microscope away";
  if (status.state === "model away") return "model away";
  if (status.state === "run waits") return "run waits";
  if (status.state === "starting") return "engine starting";
  if (pending?.what === "stop") return "stopping";
  if (status.run_id) return phaseOfRun(state, status);
  if (pending?.what === "start") return "starting";
  if (status.state === "calibrating" || status.state === "focusing") return "sweeping";
  return misfit(status) ? "misfit" : "ready";
}

function phaseOfRun(state: Instrument, status: Status): Phase {
  if (state.tracksAt === null) return "waiting";
  if (status.recorder === "stopped") return "recording stopped";
  const { gone, exposed } = recentLoss(state);
  if (gone >= LOSS_FEWEST && gone > exposed * LOSS_SHARE) return "overloaded";
  if (state.now - state.tracksAt > STALE_MS) return "stale";
  if ((state.lateMs ?? 0) > SLOW_MS) return "overloaded";
  if (state.tracks === 0 && state.now - (state.foundAt ?? state.tracksAt) > EMPTY_MS) return "empty";
  return "tracking";
}

/** Whether what is on the screen is of now. */
export function isCurrent(state: Instrument): boolean {
  return state.link === "open" && state.now - state.statusAt <= SILENT_MS && (state.tracksAt === null || state.now - state.tracksAt <= STALE_MS || !state.status?.run_id);
}
