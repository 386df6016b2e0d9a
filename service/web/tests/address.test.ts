// A view is an address.
import { expect, test } from "vitest";
import { hashOf, parseRoute } from "../src/app/address";

test("a run with time, tracks and view", () => {
  const route = parseRoute("#/runs/20261129T235113-c0a0?t=12.34&track=7,9&view=xz&rev=1");
  expect(route).toEqual({ view: "runs", run: "20261129T235113-c0a0", values: { t: "12.34", track: "7,9", view: "xz", rev: "1" } });
  expect(parseRoute(hashOf(route))).toEqual(route);
});

test.each(["", "#", "#/", "#/nonsense", "#/live"])("%j is the live view", (hash) => expect(parseRoute(hash).view).toBe("live"));

test("empty values are left out", () => expect(hashOf({ view: "live", run: null, values: { view: "" } })).toBe("#/live"));
