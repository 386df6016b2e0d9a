// The latency from mid-exposure to the screen of this computer, by comparing both clocks.

export interface Summary {
  p50: number | null;
  p95: number | null;
  p99: number | null;
  max: number | null;
}

/** Percentiles of the newest values. */
export class Newest {
  private readonly values: number[] = [];

  constructor(private readonly room = 600) {}

  add(value: number): void {
    this.values.push(value);
    if (this.values.length > this.room) this.values.shift();
  }

  clear(): void {
    this.values.length = 0;
  }

  read(): Summary {
    const sorted = [...this.values].sort((a, b) => a - b);
    const at = (share: number): number | null => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? null;
    return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: sorted.at(-1) ?? null };
  }
}

export const painted = new Newest();
