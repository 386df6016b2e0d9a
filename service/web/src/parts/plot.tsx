// A plot over time or another quantity, drawn by uPlot. Its colours follow the theme.
import type { ComponentChild } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { ground } from "../app/theme";
import { useStore } from "../state/store";
import type { SvgLine } from "./plot_svg";
import { markScale } from "./size";

export type Line = SvgLine;

interface Props {
  title: string;
  x: string;
  y: string;
  data: uPlot.AlignedData;
  lines: readonly Line[];
  height: number;
  logarithmic?: boolean;
  /** A mark at this value of x. */
  at?: number | null;
  range?: readonly [number, number] | null;
}

export function Plot({ title, x, y, data, lines, height, logarithmic = false, at = null, range = null }: Props): ComponentChild {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const mark = useRef<number | null>(at);
  const span = useRef(range);
  mark.current = at;
  span.current = range;
  const shade = useStore(ground, (value) => value);
  const names = lines.map(({ label, colour }) => label + colour).join();
  useEffect(() => {
    const ink = shade === "dark" ? { text: "#a9b9c9", grid: "#22303f" } : { text: "#4a5967", grid: "#dde3e9" };
    const scale = markScale();
    const font = `${11 * scale}px system-ui, sans-serif`;
    const tall = height * scale;
    const axis = { stroke: ink.text, grid: { stroke: ink.grid, width: 1 }, ticks: { show: false }, font, labelFont: font, labelSize: 18 * scale };
    const made = (plot.current = new uPlot(
      {
        width: holder.current!.clientWidth || 300,
        height: tall,
        legend: { show: false },
        cursor: { y: false },
        padding: [8, 14, 0, 0],
        scales: {
          x: { time: false, distr: logarithmic ? 3 : 1, ...(logarithmic ? {} : { range: (_: uPlot, low: number, high: number): [number, number] => (span.current ? [...span.current] : [low ?? 0, high ?? 1]) }) },
          y: { distr: logarithmic ? 3 : 1 },
        },
        axes: [{ ...axis, size: 24 * scale, label: x }, { ...axis, size: 44 * scale, label: y }],
        series: [
          {},
          ...lines.map(({ label, colour, dashed, points, bars }): uPlot.Series => ({
            label,
            stroke: colour,
            width: 1.75,
            spanGaps: true,
            points: { show: points ?? false, size: 5 },
            ...(dashed ? { dash: [6, 4] } : {}),
            ...(bars ? { paths: uPlot.paths.bars!({ size: [0.95], align: 1 }), fill: colour } : {}),
          })),
        ],
        hooks: {
          draw: [
            (drawn) => {
              if (mark.current === null) return;
              const left = drawn.valToPos(mark.current, "x", true);
              const { ctx, bbox } = drawn;
              ctx.strokeStyle = ink.text;
              ctx.lineWidth = 1;
              ctx.beginPath();
              ctx.moveTo(left, bbox.top);
              ctx.lineTo(left, bbox.top + bbox.height);
              ctx.stroke();
            },
          ],
        },
      },
      data,
      holder.current!,
    ));
    const watcher = new ResizeObserver(() => made.setSize({ width: holder.current?.clientWidth ?? 300, height: tall }));
    watcher.observe(holder.current!);
    return () => {
      watcher.disconnect();
      made.destroy();
    };
  }, [shade, names, height, logarithmic]);
  useEffect(() => plot.current?.setData(data), [data, range?.[0], range?.[1]]);
  useEffect(() => plot.current?.redraw(false), [at]);
  return (
    <figure class="plot">
      <figcaption>{title}</figcaption>
      <div ref={holder} role="img" aria-label={`${title}: ${y} against ${x}`} />
    </figure>
  );
}
