// Tracks of a run: what is there at a time, filters, figures and files.
import { describe, expect, test } from "vitest";
import type { TrackItem } from "../src/api/client";
import { TABLES } from "../src/runs/table_files";
import { addressOf, type Ends, type Filter, filterOf, NO_FILTER, passes } from "../src/tracks/filter";
import { meanSquared, powerLaw, Recorded, type Track, trackOf } from "../src/tracks/recorded";

/** A track along x with a point every 10 ms. */
function track(id: number, from: number, points: number, z = 10, step = 1): Track {
  const places = Array.from({ length: points }, (_, i) => i);
  const same = (value: number): number[] => places.map(() => value);
  return trackOf({
    id, points, t_from_s: from / 100, t_to_s: (from + points - 1) / 100,
    frame: places.map((i) => from + i), t_s: places.map((i) => (from + i) / 100), x_um: places.map((i) => i * step), y_um: same(0), z_um: same(z),
    vx_um_s: same(step * 100), vy_um_s: same(0), vz_um_s: same(0), sigma_x_um: same(0.1), sigma_y_um: same(0.1), sigma_z_um: same(0.2),
    observed: places.map((i) => (i === 3 ? 0 : 1)), probability: same(1),
  } as unknown as TrackItem); // prettier-ignore
}

describe("at a time", () => {
  const recorded = new Recorded([track(0, 0, 100), track(5, 150, 100, 1)]);

  test("the tracks that have a point just before are there", () => {
    expect([...Array.from(recorded.at(0.5).id)]).toEqual([0]);
    expect(recorded.at(0.5).x[0]).toBe(50);
    expect(recorded.at(0.5).frame).toBe(50);
    expect(recorded.at(1.3).count).toBe(0);
    expect([...Array.from(recorded.at(2).id)]).toEqual([5]);
  });

  test("coasting and near focus are kept", () => {
    expect(recorded.at(0.03).flags[0]).toBe(1);
    expect(recorded.at(2).flags[0]).toBe(2);
  });

  test("a run opens at its middle, or where there are tracks", () => {
    expect(new Recorded([track(0, 0, 100)]).first_s).toBeCloseTo(0.495, 3);
    expect(recorded.at((recorded.begin_s + recorded.end_s) / 2).count).toBe(0);
    expect(recorded.at(recorded.first_s).count).toBe(1);
  });

  test("density counts tracks over the run", () => expect(recorded.density(5)).toEqual([1, 1, 0, 1, 1].map((value, i) => (i === 2 ? expect.any(Number) : value))));
});

test.each([
  [{ min_points: 101 }, false],
  [{ depth: [9, 11] }, true],
  [{ depth: [11, null] }, false],
  [{ speed: [null, 50] }, false],
  [{ speed: [50, null] }, true],
  // The track goes along x from 0 to 99 µm.
  [{ x: [40, 42] }, true],
  [{ x: [99.5, null] }, false],
  [{ x: [40, 42], z: [0, 9] }, false],
  [{ x: [40, 42], y: [-1, 1], z: [9, 11] }, true],
] as [Partial<Filter>, boolean][])("filter %j", (change, kept) => expect(passes(track(0, 0, 100), { ...NO_FILTER, ...change })).toBe(kept));

test("near focus is left out where that is wanted", () => expect(passes(track(0, 0, 9, 2), { ...NO_FILTER, near_focus: false })).toBe(false));

test.each<[string, Ends]>([["_12.5", [null, 12.5]], ["-3_", [-3, null]], ["0_7", [0, 7]], ["no_", [null, null]], ["", [null, null]]])("ends of a range in an address: %j", (text, ends) => expect(filterOf({ x: text }).x).toEqual(ends));

test("a filter comes back from its address", () => {
  const filter = { ...NO_FILTER, min_points: 5, speed: [null, 3] as Ends, x: [1, 2] as Ends, near_focus: false };
  expect(filterOf(addressOf(filter))).toEqual(filter);
  expect(Object.values(addressOf(NO_FILTER)).every((value) => value === "")).toBe(true);
});

test("a straight track has the exponent 2 and the square of its speed", () => {
  const law = powerLaw(meanSquared(track(0, 0, 400)))!;
  expect(law.exponent).toBeCloseTo(2, 6);
  expect(law.factor).toBeCloseTo(100 ** 2, -1);
});

test("too short for a fit", () => expect(powerLaw(meanSquared(track(0, 0, 8)))).toBeNull());

describe("files", () => {
  const tracks = [track(4, 10, 2, 12.34567), track(9, 20, 1)];
  const text = (name: string): string[] => TABLES.find((table) => table.name.startsWith(name))!.text(tracks).trim().split("\n");

  test("CSV has the columns of the service, and four decimals", () => {
    expect(text("CSV")[0]).toBe("track_id,frame,t_s,x_um,y_um,z_um,vx_um_s,vy_um_s,vz_um_s,sigma_x_um,sigma_y_um,sigma_z_um,observed");
    expect(text("CSV")[1]).toContain("4,10,0.1000,0.0000,0.0000,12.3457");
  });

  test("Excel has decimal commas", () => expect(text("Excel")[1]).toContain("4;10;0,1000;"));

  test("TrackMate has the names of its importer", () => expect(text("TrackMate")[0]).toBe("TRACK_ID,FRAME,POSITION_X,POSITION_Y,POSITION_Z,POSITION_T"));

  test("napari has id, time, z, y, x first", () => expect(text("napari")[1]).toBe("4,10,12.3457,0.0000,0.0000,0.2000,1"));

  test("inTRACKtive counts tracks from 1 and time from 0", () => expect(text("inTRACKtive").slice(1).map((line) => line.split(",").slice(0, 2).join())).toEqual(["1,0", "1,1", "2,10"]));
});
