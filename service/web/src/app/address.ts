// Views as addresses: the hash of the page, and what it names.

export const VIEWS = ["live", "calibrate", "runs", "system"] as const;
export type ViewName = (typeof VIEWS)[number];

export interface Route {
  view: ViewName;
  /** The run of #/runs/ID; null elsewhere. */
  run: string | null;
  values: Readonly<Record<string, string>>;
}

export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [first = "", second] = path.split("/");
  const view = VIEWS.find((name) => name === first) ?? "live";
  return { view, run: view === "runs" && second ? decodeURIComponent(second) : null, values: Object.fromEntries(new URLSearchParams(query)) };
}

export function hashOf({ view, run, values }: Route): string {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "")).toString();
  return `#/${view}${run ? `/${encodeURIComponent(run)}` : ""}${query ? `?${query}` : ""}`;
}
