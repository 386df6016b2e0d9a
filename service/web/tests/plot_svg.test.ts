// A plot as an SVG file.
import { describe, expect, test } from "vitest";
import { svgOf } from "../src/parts/plot_svg";

const line = { label: "track 7", colour: "#36c5c8" };

describe("a plot as SVG", () => {
  test("values are where the axes say: the first at the left and bottom, the last at the right and top", () => {
    const svg = svgOf({ title: "depth", x: "time / s", y: "z / µm", data: [[0, 1, 2], [10, 20, 30]], lines: [line] });
    expect(svg).toContain('d="M64.00 354.00L344.00 194.00L624.00 34.00"');
    expect(svg).toContain(">z / µm</text>");
    expect(svg).not.toContain("NaN");
  });

  test("values that are not there leave no point, and words are escaped", () => {
    const svg = svgOf({ title: "a < b & c", x: "x", y: "y", data: [[0, 1, 2], [1, null, 3]], lines: [line] });
    expect(svg).toContain('d="M64.00 354.00L624.00 34.00"');
    expect(svg).toContain("a &lt; b &amp; c");
  });

  test("logarithmic axes have a tick at each power of ten", () => {
    const svg = svgOf({ title: "MSD", x: "lag", y: "µm²", data: [[0.01, 1], [0.1, 1000]], lines: [{ ...line, points: true }], logarithmic: true });
    for (const tick of ["0.01", "0.1", "1", "10", "1000"]) expect(svg).toContain(`>${tick}</text>`);
    expect(svg.match(/<circle/g)?.length).toBe(2);
  });

  test("bars stand on zero", () => {
    const svg = svgOf({ title: "depths", x: "z", y: "tracks", data: [[0, 10], [2, 4]], lines: [{ ...line, bars: true }] });
    expect(svg).toContain('height="320.00"');
    expect(svg).toContain('height="160.00"');
  });

  test("without values there are axes, and no line", () => {
    const svg = svgOf({ title: "none", x: "x", y: "y", data: [[], []], lines: [line] });
    expect(svg).not.toMatch(/NaN|Infinity|stroke-width="1.75"/);
  });

  test("several lines have a legend", () => expect(svgOf({ title: "t", x: "x", y: "y", data: [[0, 1], [1, 2], [2, 1]], lines: [line, { ...line, label: "track 9", dashed: true }] })).toMatch(/track 9[^]*$/));
});
