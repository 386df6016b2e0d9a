// Numbers as people read them.
import { expect, test } from "vitest";
import { clock, figure, minutes, percent, withSigma } from "../src/parts/words";

test.each([
  [12.3456, 0.18, "12.3 ± 0.2"],
  [61.05, 0.082, "61.05 ± 0.08"],
  [73.7, 1.2, "74 ± 1"],
  [5, NaN, "5.00"],
  [5, 0, "5.00"],
])("%d ± %d is %s", (value, sigma, words) => expect(withSigma(value, sigma)).toBe(words));

test("times", () => expect([clock(62), clock(3723), minutes(40), minutes(600), minutes(7200)]).toEqual(["01:02", "1:02:03".padStart(8, "0"), "40 s", "10 min", "2.0 h"]));

test("shares", () => expect([percent(0, 10), percent(1, 1000), percent(2, 10), percent(999, 1000), percent(10, 10), percent(0, 0)]).toEqual(["0 %", "< 1 %", "20 %", "> 99 %", "100 %", "0 %"]));

test("figures", () => expect([figure(null), figure(1234.5), figure(0.01234), figure(NaN)]).toEqual(["–", "1235", "0.0123", "–"]));
