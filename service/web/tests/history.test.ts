// The picture and the tracks that are shown together are of the same frame, or said to be apart.
import { describe, expect, test } from "vitest";
import { History, type Picture } from "../src/tracks/history";
import { NOTHING, type Snapshot } from "../src/tracks/snapshot";
import { part } from "../src/tracks/trails";

const tracks = (frame: number, id = 1): Snapshot => ({ ...NOTHING, frame, t_s: frame / 100, captured_s: 1000 + frame / 100, count: 1, id: [id], x: [frame], y: [0], z: [0], bytes: 100 });
const picture = (frame: number, came = 0): Picture => ({ frame, captured_s: 1000 + frame / 100, width: 1, height: 1, scale: 1, low_adu: 0, high_adu: 1, saturated: null, histogram: null, grey: new Uint8Array(1), came });

describe("the live moment", () => {
  test("is the newest picture whose tracks have come", () => {
    const history = new History();
    for (let frame = 0; frame <= 30; frame += 3) history.addTracks(tracks(frame));
    for (const frame of [10, 20, 30, 40]) history.addPicture(picture(frame));
    const { picture: shown, tracks: of, apart } = history.live(100);
    expect([shown!.frame, of.frame, apart]).toEqual([30, 30, 0]);
  });

  test("takes the nearest tracks, one frame beside it at most where messages come that often", () => {
    const history = new History();
    for (let frame = 0; frame <= 30; frame += 3) history.addTracks(tracks(frame));
    history.addPicture(picture(10));
    expect(history.live(100).apart).toBe(1);
  });

  test("does not wait for ever: a late run shows the newest picture and says by how much the rings are behind", () => {
    const history = new History();
    history.addTracks(tracks(100));
    history.addPicture(picture(300, 0));
    expect(history.live(1000).apart).toBe(200);
    expect(history.live(2000).behind_s).toBeCloseTo(2);
  });

  test("an older picture with its tracks is better than a newer one without", () => {
    const history = new History();
    history.addTracks(tracks(100));
    history.addPicture(picture(99, 0));
    history.addPicture(picture(120, 50));
    expect(history.live(100).picture!.frame).toBe(99);
  });

  test("tracks without a picture, and a picture without tracks", () => {
    const history = new History();
    history.addPicture(picture(5));
    expect(history.live(0).apart).toBeNull();
    const other = new History();
    other.addTracks(tracks(5));
    expect([other.live(0).picture, other.live(0).tracks.frame]).toEqual([null, 5]);
  });
});

describe("the last minute", () => {
  test("keeps sixty seconds, and finds a time in it", () => {
    const history = new History();
    for (let frame = 0; frame < 9000; frame += 10) history.addTracks(tracks(frame));
    expect(history.span![1] - history.span![0]).toBeCloseTo(60, 0);
    expect(history.at(50).tracks.frame).toBe(5000);
  });

  test("keeps the memory within bounds", () => {
    const history = new History();
    for (let frame = 0; frame < 2000; frame++) history.addTracks({ ...tracks(frame), bytes: 1e6 });
    expect(history.snapshots.length).toBeLessThan(60);
  });

  test("the path of a track is kept, also after its end, and cut by time", () => {
    const history = new History();
    for (let frame = 0; frame < 1000; frame += 10) history.addTracks(tracks(frame, 7));
    for (let frame = 1000; frame < 2000; frame += 10) history.addTracks(tracks(frame, 8));
    const path = history.trails.path(7)!;
    const [from, to] = part(path, 2, 3);
    expect([path.x[from], path.x[to - 1]]).toEqual([200, 300]);
  });
});
