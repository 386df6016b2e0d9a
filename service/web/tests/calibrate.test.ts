// Which step of the calibration is due follows from the server's state alone.
import { describe, expect, test } from "vitest";
import type { Calibration, Job, Model } from "../src/api/client";
import { countSpots, sharpness } from "../src/calibrate/spots";
import { type Bench, fitsPixel, planesOf, stepDue } from "../src/calibrate/step";
import { jobWords } from "../src/parts/jobs";
import type { Picture } from "../src/tracks/history";

const job = (kind: string, state: string, more: object = {}): Job => ({ id: "j", kind, state, step: "compute", progress: null, ...more }) as unknown as Job;
const CALIBRATION = { id: "c1" } as Calibration;
const MODEL = { id: "m1", calibration_id: "c1" } as Model;
const bench = (change: Partial<Bench>): Bench => ({ jobs: [], calibrations: [], models: [], active: "shipped", ...change });

test.each([
  ["nothing yet", {}, "sample"],
  ["a sweep is on", { jobs: [job("calibrate", "running")], calibrations: [CALIBRATION] }, "sweep"],
  ["a failed sweep does not hold the page", { jobs: [job("calibrate", "failed")] }, "sample"],
  ["a calibration without a model", { calibrations: [CALIBRATION] }, "judge"],
  ["a training is on", { jobs: [job("train", "queued")], calibrations: [CALIBRATION] }, "train"],
  ["a model that is not used", { calibrations: [CALIBRATION], models: [MODEL] }, "use"],
  ["a model that is used", { calibrations: [CALIBRATION], models: [MODEL], active: "m1" }, "sample"],
] as const)("%s", (_, change, step) => expect(stepDue(bench(change as Partial<Bench>))).toBe(step));

test("the fit of the optics", () => expect([fitsPixel(0.65, 0.66), fitsPixel(0.65, 1), fitsPixel(0.65, null)]).toEqual([true, false, null]));

test("planes of a sweep", () => expect([planesOf(0, 50, 1), planesOf(0, 1, 0.1), planesOf(5, 5, 1), planesOf(0, 5, 0)]).toEqual([51, 11, 0, 0]));

describe("jobs in words", () => {
  test.each([
    [job("calibrate", "running", { step: "sweep", progress: { done: 31, total: 52, unit: "planes", eta_s: 20 } }), "Sweeping, plane 31 of 52, 20 s left"],
    [job("calibrate", "running", { progress: { done: 80, total: 100, unit: "%", eta_s: null } }), "Calibration, 80 %"],
    [job("train", "queued"), "Training waits"],
    [job("train", "running"), "Training begins"],
    [job("focus", "running", { step: "sweep", progress: { done: 3, total: 31, unit: "images", eta_s: null } }), "Finding the focus, image 3 of 31"],
  ])("%#", (value, words) => expect(jobWords(value)).toBe(words));
});

describe("bright spots", () => {
  const picture = (paint: (x: number, y: number) => number): Picture => {
    const grey = new Uint8Array(64 * 64).map((_, i) => paint(i % 64, Math.floor(i / 64)));
    return { frame: 0, captured_s: 0, width: 64, height: 64, scale: 1, low_adu: 0, high_adu: 255, saturated: null, histogram: null, grey, came: 0 };
  };
  const spots = (places: [number, number][], radius: number) => picture((x, y) => (places.some(([cx, cy]) => Math.hypot(x - cx, y - cy) <= radius) ? 220 : 20 + ((x * 7 + y * 13) % 5)));

  test("are counted, single pixels are not", () => {
    expect(countSpots(spots([[10, 10], [40, 20], [20, 50]], 3))).toBe(3);
    expect(countSpots(spots([[10, 10]], 0))).toBe(0);
  });

  test("the rings of one pattern are one spot", () => {
    const rings = picture((x, y) => ([4, 11, 18].some((radius) => Math.abs(Math.hypot(x - 32, y - 32) - radius) < 1.5) ? 160 : 20 + ((x * 7 + y * 13) % 5)));
    expect(countSpots(rings)).toBe(1);
  });

  test("sharp ones have a higher value than blurred ones of the same light", () => {
    const blurred = picture((x, y) => 20 + 60 * Math.exp(-((x - 32) ** 2 + (y - 32) ** 2) / 200));
    expect(sharpness(spots([[32, 32]], 4))).toBeGreaterThan(sharpness(blurred) * 5);
  });
});
