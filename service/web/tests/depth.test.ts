// The scale of depth for people who do not tell all colours: lightness falls all the way, and a tenth of the scale is told
// from the next one under three simulations (Machado, Oliveira, Fernandes 2009, severity 1; CIE 1976 distance).
import { describe, expect, test } from "vitest";
import { type Ground, rampColour } from "../src/colour/depth";

type Matrix = readonly (readonly number[])[];
const SIMULATIONS: Record<string, Matrix> = {
  none: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}; // prettier-ignore
const XYZ: Matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]];
const WHITE = [0.95047, 1, 1.08883];

const times = (matrix: Matrix, v: readonly number[]): number[] => matrix.map((row) => row.reduce((sum, value, i) => sum + value * v[i]!, 0));
const linear = (value: number): number => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);

function lab(rgb: readonly number[]): number[] {
  const f = times(XYZ, rgb.map((value) => Math.min(1, Math.max(0, value)))).map((value, i) => {
    const t = value / WHITE[i]!;
    return t > 216 / 24389 ? Math.cbrt(t) : ((24389 / 27) * t + 16) / 116;
  });
  return [116 * f[1]! - 16, 500 * (f[0]! - f[1]!), 200 * (f[1]! - f[2]!)];
}

const tenths = Array.from({ length: 11 }, (_, i) => i / 10);

describe.each(["dark", "light"] as Ground[])("on a %s ground", (ground) => {
  const seen = (matrix: Matrix): number[][] => tenths.map((at) => lab(times(matrix, rampColour(at, ground).map(linear))));

  test("lightness falls with depth", () => {
    const lightness = seen(SIMULATIONS["none"]!).map(([value]) => value!);
    for (let i = 1; i < lightness.length; i++) expect(lightness[i]!).toBeLessThan(lightness[i - 1]! - 1);
    expect(lightness[0]! - lightness[10]!).toBeGreaterThan(38);
  });

  test.each(Object.keys(SIMULATIONS))("each tenth differs from the next: %s", (name) => {
    const colours = seen(SIMULATIONS[name]!);
    for (let i = 1; i < colours.length; i++) {
      expect(Math.hypot(...colours[i]!.map((value, axis) => value - colours[i - 1]![axis]!))).toBeGreaterThan(6);
    }
  });

  test("every colour stands out from the ground, at least 3 : 1", () => {
    const luminance = (rgb: readonly number[]): number => times(XYZ, rgb.map(linear))[1]!;
    const behind = luminance(ground === "dark" ? [10 / 255, 15 / 255, 22 / 255] : [247 / 255, 249 / 255, 251 / 255]);
    for (const at of tenths) {
      const [high, low] = [luminance(rampColour(at, ground)), behind].sort((a, b) => b - a) as [number, number];
      expect((high + 0.05) / (low + 0.05)).toBeGreaterThan(3);
    }
  });
});
