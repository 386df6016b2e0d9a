// The ledger of frames, and the table of latencies.

const ROWS: readonly (readonly [string, string])[] = [
  ["exposed", "frames that the camera exposed"],
  ["grabbed", "fetched from the camera"],
  ["lost", "exposed, but gone before they were fetched"],
  ["analysed", "positions found, joined to tracks and stored"],
  ["deferred", "recorded, to be analysed after the run"],
  ["skipped", "too late or not stored, and not recorded"],
  ["recorded", "written to disk"],
];
/** Counts that are zero while the instrument works as it should. */
const WARNINGS = new Set(["lost", "skipped"]);

const STAGES = ["grabbed", "analysed", "tracked", "published", "painted"] as const;
const FIGURES = ["p50", "p95", "p99", "max"] as const;

export type Ledger = Record<string, number | null | undefined>;
export type Latency = Record<string, Partial<Record<(typeof FIGURES)[number], number | null>> | null | undefined>;

export class LedgerTable {
  private readonly values = new Map<string, HTMLElement>();

  constructor(
    holder: HTMLElement,
    private readonly balance: HTMLElement,
  ) {
    for (const [name, meaning] of ROWS) {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      term.textContent = name;
      row.title = meaning;
      value.dataset["count"] = name;
      value.textContent = "–";
      row.append(term, value);
      holder.append(row);
      this.values.set(name, value);
    }
  }

  show(ledger: Ledger): void {
    for (const [name, element] of this.values) {
      const count = ledger[name];
      element.textContent = count == null ? "–" : count.toLocaleString("en");
      element.classList.toggle("warning", WARNINGS.has(name) && (count ?? 0) > 0);
    }
    const { exposed, grabbed, lost } = ledger;
    if (exposed == null || grabbed == null || lost == null) {
      this.balance.textContent = "";
      return;
    }
    const whole = exposed === grabbed + lost;
    this.balance.textContent = lost === 0 && whole ? "nothing lost" : whole ? "every frame accounted for" : "counting";
  }
}

export class LatencyTable {
  private readonly cells = new Map<string, HTMLElement>();

  constructor(holder: HTMLElement) {
    for (const stage of STAGES) {
      const row = document.createElement("tr");
      const name = document.createElement("th");
      name.scope = "row";
      name.textContent = stage === "painted" ? "painted here" : stage;
      if (stage === "painted") name.title = "Compares the clocks of the service and of this computer; correct when both clocks agree";
      row.append(name);
      for (const figure of FIGURES) {
        const cell = document.createElement("td");
        cell.textContent = "–";
        row.append(cell);
        this.cells.set(`${stage} ${figure}`, cell);
      }
      holder.append(row);
    }
  }

  show(latency: Latency): void {
    for (const stage of STAGES) {
      if (!(stage in latency)) continue;
      for (const figure of FIGURES) {
        const value = latency[stage]?.[figure];
        this.cells.get(`${stage} ${figure}`)!.textContent = value == null ? "–" : value.toFixed(value < 9.95 ? 1 : 0);
      }
    }
  }
}

/** Percentiles of the newest values. */
export class Percentiles {
  private readonly values: number[] = [];

  constructor(private readonly room = 600) {}

  add(value: number): void {
    this.values.push(value);
    if (this.values.length > this.room) this.values.shift();
  }

  clear(): void {
    this.values.length = 0;
  }

  read(): Record<(typeof FIGURES)[number], number | null> {
    const sorted = [...this.values].sort((a, b) => a - b);
    const at = (share: number): number | null => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? null;
    return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: sorted.at(-1) ?? null };
  }
}
