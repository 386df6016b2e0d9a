// The trust sentence: what a person may believe of the screen, in one line with a tone, and what can be done.
import { type Instrument, phaseOf, type Phase, recentLoss } from "./instrument";
import { misfit, type Status } from "./status";

export type Tone = "good" | "calm" | "warn" | "bad";

export interface Action {
  words: string;
  /** A route, or the name of a command of the page. */
  does: "calibrate" | "models" | "roi" | "rate" | "cancel" | "system" | "details" | "runs";
}

export interface Trust {
  phase: Phase;
  tone: Tone;
  /** Word before the sentence, so that the tone is not told by colour only. */
  sign: "OK" | "Busy" | "Attention" | "Error";
  words: string;
  actions: Action[];
}

const SIGNS = { good: "OK", calm: "Busy", warn: "Attention", bad: "Error" } as const;

export interface Around {
  /** Progress of a sweep or a training that is on, in words. */
  job: string | null;
  jobIsSweep: boolean;
  recordedGb: number | null;
  hoursLeft: number | null;
}

export function trustOf(state: Instrument, around: Around): Trust {
  const phase = phaseOf(state);
  const [tone, words, ...actions] = say(phase, state, around);
  return { phase, tone, sign: SIGNS[tone], words, actions };
}

const CALIBRATE: Action = { words: "Calibrate", does: "calibrate" };
const CHOOSE: Action = { words: "Choose a model", does: "models" };
const DETAILS: Action = { words: "Details", does: "system" };

function say(phase: Phase, state: Instrument, around: Around): [Tone, string, ...Action[]] {
  const status = state.status;
  switch (phase) {
    case "connecting":
      return ["calm", "Connecting …"];
    case "locked":
      return ["bad", "Access key needed"];
    case "refused":
      return ["bad", state.reason ?? "The service refuses this page"];
    case "silent": {
      const seconds = Math.round((state.now - (status ? state.statusAt : state.begun)) / 1000);
      return ["bad", status ? `No answer for ${seconds} s, showing old data` : `No answer for ${seconds} s`];
    }
    case "engine away":
      return ["bad", "Engine away, restarting by itself", DETAILS];
    case "microscope away":
      return ["bad", `Microscope away: ${firstSentence(status?.problem) ?? "no reason given"}`, DETAILS];
    case "model away":
      return ["bad", `Model away: ${firstSentence(status?.problem) ?? "no reason given"}`, CHOOSE];
    case "run waits":
      return ["warn", `The first run waits: ${firstSentence(status?.problem) ?? "no reason given"}`, DETAILS];
    case "engine starting":
      return ["calm", "The instrument is starting; the first start on a computer takes a minute or two"];
    case "sweeping":
      return ["calm", around.job ?? (status?.state === "focusing" ? "Finding the focus" : "Sweeping"), { words: "Cancel", does: "cancel" }];
    case "misfit":
      return ["warn", "Model does not fit this objective", CALIBRATE, CHOOSE];
    case "ready":
      return around.job ? ["calm", `Ready · ${around.job}`, CALIBRATE] : ["good", "Ready"];
    case "starting":
      return ["calm", state.now - (state.pending?.since ?? 0) > 2000 ? "Starting: the model is warmed up, then the camera begins" : "Starting …"];
    case "stopping":
      return ["calm", state.now - (state.pending?.since ?? 0) > 2000 ? "Stopping: the last frames are analysed and stored" : "Stopping …"];
    case "waiting":
      return ["calm", "The run has begun; no frame is analysed yet"];
    case "recording stopped":
      return ["bad", `Recording stopped: ${firstSentence(status?.problem) ?? "writing to the disk failed"}`, { words: "Runs", does: "runs" }];
    case "overloaded":
      return ["warn", overload(state), { words: "Smaller region", does: "roi" }, { words: "Lower rate", does: "rate" }];
    case "stale":
      return ["warn", `No new tracks for ${Math.round((state.now - (state.tracksAt ?? state.now)) / 1000)} s`, DETAILS];
    case "empty": {
      const [low, high] = status?.z_range_um ?? [0, 100];
      return ["warn", `Nothing found for 5 s: light? focus? depth range ${low} to ${high} µm`];
    }
    case "tracking":
      return ["good", tracking(state, status, around)];
  }
}

function tracking(state: Instrument, status: Status | null, around: Around): string {
  const parts = [`Tracking ${state.tracks}`];
  if (status?.fps != null) parts.push(`${status.fps.toFixed(0)} frames/s`);
  const late = status?.latency_ms?.["tracked"]?.p50;
  if (late != null) parts.push(`${late.toFixed(0)} ms`);
  if (status?.recorder === "writing") {
    const left = around.hoursLeft === null ? "" : `, ${hours(around.hoursLeft)} left`;
    parts.push(around.recordedGb === null ? "Recording" : `Recording ${around.recordedGb.toFixed(around.recordedGb < 10 ? 1 : 0)} GB${left}`);
  }
  return parts.join(" · ");
}

function overload(state: Instrument): string {
  const { gone, exposed } = recentLoss(state);
  if (gone > exposed * 0.01) {
    const share = gone / Math.max(1, exposed);
    const words = share >= 0.1 ? `${Math.round(share * 10)} of 10` : `${Math.max(1, Math.round(share * 100))} of 100`;
    return `${words} frames lost: computer too busy`;
  }
  return `Tracks are ${((state.lateMs ?? 0) / 1000).toFixed(1)} s late: computer too busy`;
}

export function hours(value: number): string {
  if (value >= 48) return `${Math.round(value / 24)} days`;
  return value >= 1 ? `${value.toFixed(value < 10 ? 1 : 0)} h` : `${Math.round(value * 60)} min`;
}

function firstSentence(text: string | null | undefined): string | null {
  return text ? (/^.*?[.:](?=\s|$)/.exec(text)?.[0] ?? text).replace(/[.:]$/, "") : null;
}

/** Title, text and actions of the card that a state shows in the middle of the live view; null: nothing is said there. */
export interface Card {
  title: string;
  words: string;
  tone: Tone;
  actions: Action[];
}

export function cardOf(state: Instrument): Card | null {
  const phase = phaseOf(state);
  const status = state.status;
  const said = `${status?.problem ?? ""} ${status?.remedy ?? ""}`.trim();
  switch (phase) {
    case "refused":
      return { title: "The service refuses this page", words: state.reason ?? "", tone: "bad", actions: [] };
    case "silent":
      return state.status ? null : { title: "The service does not answer", words: "Is it running? The page connects by itself as soon as it answers.", tone: "bad", actions: [] };
    case "engine away":
      return { title: "Engine away", words: said || "It is restarted by itself.", tone: "bad", actions: [DETAILS] };
    case "microscope away":
      return { title: "Microscope away", words: `${said} It is tried again by itself.`, tone: "bad", actions: [DETAILS] };
    case "model away":
      return { title: "Model away", words: said, tone: "bad", actions: [CHOOSE, CALIBRATE] };
    case "run waits":
      return { title: "The first run waits", words: said, tone: "warn", actions: [DETAILS] };
    case "misfit":
      return { title: "The model does not fit this objective", words: `${misfit(status!) ?? ""} Calibrate once, about 15 minutes; or choose a model that fits.`, tone: "warn", actions: [CALIBRATE, CHOOSE] };
    default:
      return null;
  }
}
