// A plot as an SVG file, for figures: its lines stay lines, and its words stay words.
import { ticks } from "../scene/volume";

export interface SvgLine {
  label: string;
  colour: string;
  dashed?: boolean;
  points?: boolean;
  bars?: boolean;
}

export interface SvgPlot {
  title: string;
  x: string;
  y: string;
  /** The values of x, then those of each line; null where a line has none. */
  data: readonly (readonly (number | null | undefined)[])[];
  lines: readonly SvgLine[];
  logarithmic?: boolean;
}

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 400, 64, 16, 34, 46];
const LEGEND_PX = 18;
/** Lines that are named in the legend. */
const MOST_NAMED = 16;

function clean(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");
}

interface Axis {
  place(value: number): number;
  ticks: readonly number[];
}

/** An axis over the values, from `begin` to `end` on the paper. */
function axisOf(values: readonly number[], begin: number, end: number, logarithmic: boolean, withZero: boolean): Axis {
  const shown = values.filter((value) => Number.isFinite(value) && (!logarithmic || value > 0));
  let low = shown.reduce((least, value) => Math.min(least, value), Infinity);
  let high = shown.reduce((most, value) => Math.max(most, value), -Infinity);
  if (!shown.length) [low, high] = logarithmic ? [1, 10] : [0, 1];
  if (withZero) low = Math.min(0, low);
  if (logarithmic) {
    const [from, to] = [Math.floor(Math.log10(low)), Math.max(Math.ceil(Math.log10(high)), Math.floor(Math.log10(low)) + 1)];
    return { place: (value) => begin + ((Math.log10(value) - from) / (to - from)) * (end - begin), ticks: Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i)) };
  }
  if (high === low) [low, high] = [low - 0.5, high + 0.5];
  return { place: (value) => begin + ((value - low) / (high - low)) * (end - begin), ticks: ticks(low, high, 6) };
}

export function svgOf({ title, x, y, data, lines, logarithmic = false }: SvgPlot): string {
  const [across = [], ...columns] = data;
  const numbers = (values: readonly (number | null | undefined)[]): number[] => values.filter((value): value is number => value != null);
  const named = lines.length > 1 ? lines.slice(0, MOST_NAMED) : [];
  const bars = lines.some((line) => line.bars);
  const height = HEIGHT + named.length * LEGEND_PX;
  const right = axisOf(numbers(across), LEFT, WIDTH - RIGHT, logarithmic, false);
  const up = axisOf(columns.flatMap(numbers), HEIGHT - BOTTOM, TOP, logarithmic, bars);
  const at = (value: number): string => value.toFixed(2);
  const text = (words: string, px: number, py: number, how: string): string => `<text x="${at(px)}" y="${at(py)}" ${how}>${clean(words)}</text>`;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#222">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    text(title, LEFT, 20, `font-size="14"`),
    ...right.ticks.map((tick) => `<path d="M${at(right.place(tick))} ${TOP}V${HEIGHT - BOTTOM}" stroke="#ddd"/>${text(String(+tick.toPrecision(5)), right.place(tick), HEIGHT - BOTTOM + 16, `text-anchor="middle"`)}`),
    ...up.ticks.map((tick) => `<path d="M${LEFT} ${at(up.place(tick))}H${WIDTH - RIGHT}" stroke="#ddd"/>${text(String(+tick.toPrecision(5)), LEFT - 6, up.place(tick) + 4, `text-anchor="end"`)}`),
    `<path d="M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}" fill="none" stroke="#222"/>`,
    text(x, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, `text-anchor="middle"`),
    text(y, 14, (TOP + HEIGHT - BOTTOM) / 2, `text-anchor="middle" transform="rotate(-90 14 ${(TOP + HEIGHT - BOTTOM) / 2})"`),
  ];
  lines.forEach((line, number) => {
    const points = across.flatMap((value, i) => {
      const other = columns[number]?.[i];
      return value == null || other == null || !Number.isFinite(other) || (logarithmic && (value <= 0 || other <= 0)) ? [] : [[value, other] as const];
    });
    if (line.bars) {
      const wide = points.length > 1 ? (right.place(points[1]![0]) - right.place(points[0]![0])) * 0.95 : 20;
      for (const [a, b] of points) parts.push(`<rect x="${at(right.place(a))}" y="${at(up.place(b))}" width="${at(wide)}" height="${at(up.place(0) - up.place(b))}" fill="${line.colour}"/>`);
      return;
    }
    const path = points.map(([a, b], i) => `${i ? "L" : "M"}${at(right.place(a))} ${at(up.place(b))}`).join("");
    if (path) parts.push(`<path d="${path}" fill="none" stroke="${line.colour}" stroke-width="1.75"${line.dashed ? ` stroke-dasharray="6 4"` : ""}/>`);
    if (line.points) for (const [a, b] of points) parts.push(`<circle cx="${at(right.place(a))}" cy="${at(up.place(b))}" r="3" fill="${line.colour}"/>`);
  });
  named.forEach(({ label, colour, dashed }, i) => {
    const py = HEIGHT + i * LEGEND_PX + 4;
    parts.push(`<path d="M${LEFT} ${py}h24" stroke="${colour}" stroke-width="2"${dashed ? ` stroke-dasharray="6 4"` : ""}/>`, text(label, LEFT + 32, py + 4, ""));
  });
  return `${parts.join("\n")}\n</svg>\n`;
}
