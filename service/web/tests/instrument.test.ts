// Every state of the instrument, made by what happens.
import { describe, expect, test } from "vitest";
import { after, type Happening, initial, type Instrument, isCurrent, phaseOf, recentLoss } from "../src/state/instrument";
import type { Status } from "../src/state/status";
import { cardOf, trustOf } from "../src/state/trust";

const SCOPE = {
  description: { camera: "c", driver: "d", sensor_shape: [512, 512] as [number, number], bit_depth: 16, pixel_size_um: 0.65, focus_stage: "z" },
  camera: { exposure_s: 0.01, roi: null, binning: 1 },
};
const READY: Status = { type: "status", state: "ready", epoch: "a", run_id: null, pixel_size_um: 0.65, z_range_um: [0, 100], microscope: SCOPE };
const RUNNING: Status = { ...READY, state: "running", run_id: "r1", fps: 100, ledger: { exposed: 0, lost: 0, skipped: 0 } };
const AROUND = { job: null, jobIsSweep: false, recordedGb: null, hoursLeft: null };

function play(...happenings: Omit<Happening, "now">[]): Instrument {
  return playFrom(initial(0), ...happenings);
}

/** Each happening comes 100 ms after the one before, unless it states its time. */
function playFrom(state: Instrument, ...happenings: (Omit<Happening, "now"> & { now?: number })[]): Instrument {
  return happenings.reduce((now, happening) => after(now, { now: now.now + 100, ...happening } as Happening), state);
}

const open = { kind: "link", link: "open" } as const;
const status = (value: Status) => ({ kind: "status", status: value }) as const;
const tracks = (count: number, lateMs = 40) => ({ kind: "tracks", run: "r1", count, lateMs }) as const;
const wait = (state: Instrument, ms: number): Instrument => after(state, { kind: "tick", now: state.now + ms });
const words = (state: Instrument): string => trustOf(state, AROUND).words;

describe("without the service", () => {
  test("connecting claims nothing, and becomes silent after three seconds", () => {
    expect(phaseOf(initial(0))).toBe("connecting");
    expect(cardOf(initial(0))).toBeNull();
    const late = wait(initial(0), 3100);
    expect(phaseOf(late)).toBe("silent");
    expect(words(late)).toBe("No answer for 3 s");
  });

  test("a frozen service is said, with the age of what is shown", () => {
    const frozen = wait(play(open, status(RUNNING), tracks(5)), 4000);
    expect(phaseOf(frozen)).toBe("silent");
    expect(words(frozen)).toBe("No answer for 4 s, showing old data");
    expect(isCurrent(frozen)).toBe(false);
    expect(cardOf(frozen)).toBeNull(); // what is on the screen is not covered
  });

  test("locked and refused come before everything else", () => {
    expect(phaseOf(play(open, status(RUNNING), { kind: "link", link: "locked" } as never))).toBe("locked");
    const refused = play({ kind: "link", link: "refused", reason: "Host x." } as never);
    expect(words(refused)).toBe("Host x.");
  });
});

describe("before a run", () => {
  test.each([
    ["engine away", "engine away", "bad"],
    ["microscope away", "microscope away", "bad"],
    ["model away", "model away", "bad"],
    ["run waits", "run waits", "warn"],
    ["starting", "engine starting", "calm"],
    ["calibrating", "sweeping", "calm"],
    ["focusing", "sweeping", "calm"],
    ["ready", "ready", "good"],
  ] as const)("state %s", (state, phase, tone) => {
    const now = play(open, status({ ...READY, state, problem: "The camera is off. More." }));
    expect(phaseOf(now)).toBe(phase);
    expect(trustOf(now, AROUND).tone).toBe(tone);
  });

  test("a model of another pixel size is said before anybody starts", () => {
    const now = play(open, status({ ...READY, microscope: { ...SCOPE, description: { ...SCOPE.description, pixel_size_um: 1 } } }));
    expect(phaseOf(now)).toBe("misfit");
    expect(trustOf(now, AROUND).actions[0]!.does).toBe("calibrate");
    expect(cardOf(now)!.words).toContain("1 µm per pixel");
  });

  test("binning counts, and two percent are allowed", () => {
    const fits = (pixel: number, binning: number): boolean =>
      phaseOf(play(open, status({ ...READY, microscope: { description: { ...SCOPE.description, pixel_size_um: pixel }, camera: { ...SCOPE.camera, binning } } }))) === "ready";
    expect([fits(0.325, 2), fits(0.66, 1), fits(0.67, 1)]).toEqual([true, true, false]);
  });

  test("start is shown at once, and explained after two seconds", () => {
    const begun = play(open, status(READY), { kind: "pending", what: "start" } as never);
    expect(words(begun)).toBe("Starting …");
    expect(words(after(wait(begun, 2200), { kind: "status", now: begun.now + 2200, status: READY }))).toContain("warmed up");
  });
});

describe("while a run is on", () => {
  const running = play(open, status(RUNNING), tracks(18), status({ ...RUNNING, latency_ms: { tracked: { p50: 44 } } }), tracks(18));

  test("tracking", () => {
    expect(phaseOf(running)).toBe("tracking");
    expect(words(running)).toBe("Tracking 18 · 100 frames/s · 44 ms");
  });

  test("waiting for the first frame", () => expect(phaseOf(play(open, status(RUNNING)))).toBe("waiting"));

  test("stale after a second without tracks", () => {
    const late = after(running, { kind: "status", now: running.now + 1500, status: RUNNING });
    expect(phaseOf(late)).toBe("stale");
    expect(isCurrent(late)).toBe(false);
  });

  test("nothing found for five seconds", () => {
    let now = play(open, status(RUNNING), tracks(0));
    for (let i = 0; i < 60; i++) now = playFrom(now, tracks(0), status(RUNNING));
    expect(phaseOf(now)).toBe("empty");
    expect(words(now)).toContain("0 to 100 µm");
  });

  test("overload names the share of the last ten seconds", () => {
    const counted = (exposed: number, lost: number): Status => ({ ...RUNNING, ledger: { exposed, lost, skipped: 0 } });
    const now = playFrom(running, status(counted(1000, 0)), status(counted(1100, 40)), tracks(3));
    expect(recentLoss(now)).toEqual({ gone: 40, exposed: 1100 });
    expect(phaseOf(now)).toBe("overloaded");
    expect(words(now)).toBe("4 of 100 frames lost: computer too busy");
    expect(trustOf(now, AROUND).actions.map(({ does }) => does)).toEqual(["roi", "rate"]);
  });

  test("tracks that come late are an overload too", () => expect(words(playFrom(running, tracks(3, 900)))).toBe("Tracks are 0.9 s late: computer too busy"));

  test("a recording that has stopped", () => expect(phaseOf(playFrom(running, status({ ...RUNNING, recorder: "stopped" }), tracks(1)))).toBe("recording stopped"));

  test("the end of a run is kept for its card, until the next one", () => {
    const ended = playFrom(running, status(READY));
    expect([phaseOf(ended), ended.ended]).toEqual(["ready", "r1"]);
    expect(playFrom(ended, status({ ...RUNNING, run_id: "r2" })).ended).toBeNull();
  });

  test("a new engine interrupts the run of the old one", () => {
    const again = playFrom(running, status({ ...RUNNING, epoch: "b", run_id: "r2" }));
    expect(again.interrupted?.run).toBe("r1");
    expect(again.tracks).toBe(0);
    expect(playFrom(again, { kind: "dismiss", what: "interrupted" } as never).interrupted).toBeNull();
  });

  test("an engine that is away for a moment does not end the run", () => {
    const away = playFrom(running, status({ type: "status", state: "engine away" }));
    expect([away.run, away.ended, phaseOf(away)]).toEqual(["r1", null, "engine away"]);
  });
});
