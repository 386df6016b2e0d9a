// The frame rate, and its chart over the last minute.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

const SPAN_S = 60;
const STEP_S = 0.5;
const RATE_SPAN_S = 2;

/** The rate of a count, by the clock of this computer: a mean over the last two seconds. */
export class Rate {
  private readonly times: number[] = [];
  private readonly counts: number[] = [];

  /** Add the current count; return the rate, or null until there are enough counts. */
  add(count: number): number | null {
    const now = performance.now() / 1000;
    if (count < (this.counts.at(-1) ?? 0)) this.clear();
    this.times.push(now);
    this.counts.push(count);
    while (this.times[0]! < now - RATE_SPAN_S) {
      this.times.shift();
      this.counts.shift();
    }
    const span = now - this.times[0]!;
    return span < RATE_SPAN_S / 2 ? null : (count - this.counts[0]!) / span;
  }

  clear(): void {
    this.times.length = this.counts.length = 0;
  }
}

export class RateChart {
  private readonly times: number[] = [];
  private readonly rates: (number | null)[] = [];
  private readonly plot: uPlot;
  private last = 0;

  constructor(private readonly holder: HTMLElement) {
    const axis = { stroke: "#8b9db0", grid: { stroke: "#1b2735", width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot(
      {
        width: holder.clientWidth || 300,
        height: 110,
        legend: { show: false },
        cursor: { show: false },
        padding: [8, 16, 0, 0],
        scales: {
          x: { time: false, range: () => [-SPAN_S, 0] },
          y: { range: (_, __, high) => [0, Math.max(10, Math.ceil(((high ?? 0) * 1.15) / 10) * 10)] },
        },
        axes: [
          { ...axis, size: 22, values: (_, marks) => marks.map((mark) => (mark === 0 ? "now" : `${mark} s`)) },
          { ...axis, size: 36 },
        ],
        series: [{}, { stroke: "#36c5c8", fill: "rgb(54 197 200 / 0.12)", width: 2, points: { show: false } }],
      },
      [[], []],
      holder,
    );
    new ResizeObserver(() => this.plot.setSize({ width: holder.clientWidth, height: 110 })).observe(holder);
  }

  /** Add the current rate; null leaves a gap. The chart is drawn twice a second, however often this is called. */
  add(fps: number | null): void {
    const now = performance.now() / 1000;
    if (now - this.last < STEP_S) return;
    this.last = now;
    this.times.push(now);
    this.rates.push(fps);
    while (this.times[0]! < now - SPAN_S) {
      this.times.shift();
      this.rates.shift();
    }
    this.plot.setData([this.times.map((time) => time - now), this.rates]);
    const known = this.rates.filter((rate) => rate !== null);
    const mean = known.reduce((sum, rate) => sum + rate, 0) / known.length;
    this.holder.setAttribute(
      "aria-label",
      known.length ? `${mean.toFixed(0)} frames per second analysed, mean of the last minute` : "No frames yet",
    );
  }
}
