// Rate and latency of the last ten minutes, one value a second, also while another view is shown.
import { instrument } from "../state/app";

const KEPT = 600;

class RateLog {
  private readonly at: number[] = [];
  private readonly fps: (number | null)[] = [];
  private readonly late: (number | null)[] = [];
  private last = 0;

  constructor() {
    instrument.listen(() => this.look());
  }

  /** Seconds before now, frames per second, latency in ms. `_` makes a caller's redraw explicit. */
  read(_: number): [number[], (number | null)[], (number | null)[]] {
    const now = performance.now() / 1000;
    return [this.at.map((at) => at - now), [...this.fps], [...this.late]];
  }

  private look(): void {
    const { status, statusAt, run } = instrument.get();
    if (statusAt - this.last < 1000 || !status) return;
    this.last = statusAt;
    this.at.push(statusAt / 1000);
    this.fps.push(run ? (status.fps ?? null) : null);
    this.late.push(run ? (status.latency_ms?.["tracked"]?.p50 ?? null) : null);
    if (this.at.length > KEPT) for (const column of [this.at, this.fps, this.late]) column.shift();
  }
}

export const rates = new RateLog();
