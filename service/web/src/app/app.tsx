// The rail and the view of the route. A view that fails is replaced by a statement of the failure; rail, top bar and
// connection go on.
import { type ComponentChild, type ComponentChildren, Component } from "preact";
import { useEffect } from "preact/hooks";
import { Calibrate } from "../calibrate/calibrate";
import { Live } from "../live/live";
import { Runs } from "../runs/runs";
import { RunView } from "../runs/run_view";
import { instrument, jobs } from "../state/app";
import { useStore } from "../state/store";
import { System } from "../system/system";
import type { ViewName } from "./address";
import { Help, onKey } from "./help";
import { KeyCard } from "./key_card";
import { Notices } from "./notices";
import { route } from "./route";
import { Standing } from "./standing";

const RAIL: readonly (readonly [ViewName, string, string])[] = [
  ["live", "Live", "M3 12h4l3-8 4 16 3-8h4"],
  ["calibrate", "Calibrate", "M12 3v18M5 7h14M7 12h10M9 17h6"],
  ["runs", "Runs", "M4 6h16M4 12h16M4 18h10"],
  ["system", "System", "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2"],
];

export function App(): ComponentChild {
  const now = useStore(route, (value) => value);
  const locked = useStore(instrument, ({ link }) => link === "locked");
  useEffect(() => {
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
  useEffect(() => {
    document.title = `${now.run ? "Run" : RAIL.find(([name]) => name === now.view)![1]} · Bathyscope`;
  }, [now.view, now.run]);
  return (
    <>
      <Rail view={now.view} />
      <div class="column">
        <Standing />
        <main id="main" tabIndex={-1}>
          {locked ? <KeyCard /> : <Guarded key={`${now.view} ${now.run ?? ""}`}>{viewOf(now.view, now.run)}</Guarded>}
        </main>
      </div>
      <Notices />
      <Help />
    </>
  );
}

function viewOf(view: ViewName, run: string | null): ComponentChild {
  if (view === "calibrate") return <Calibrate />;
  if (view === "runs") return run ? <RunView id={run} /> : <Runs />;
  return view === "system" ? <System /> : <Live />;
}

function Rail({ view }: { view: ViewName }): ComponentChild {
  const busy = useStore(jobs, (all) => all.some(({ state, kind }) => kind !== "export" && (state === "running" || state === "queued")));
  return (
    <nav class="rail" aria-label="Views">
      {RAIL.map(([name, words, path]) => (
        <a key={name} href={`#/${name}`} aria-current={name === view ? "page" : undefined}>
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d={path} /></svg>
          <span>{words}</span>
          {name === "calibrate" && busy ? <i class="badge" title="A job is on"><span class="unseen">, a job is on</span></i> : null}
        </a>
      ))}
    </nav>
  );
}

class Guarded extends Component<{ children: ComponentChildren }, { failure: string | null }> {
  override state = { failure: null as string | null };

  override componentDidCatch(error: unknown): void {
    console.warn("A view failed", error);
    this.setState({ failure: String(error) });
  }

  override render(): ComponentChild {
    if (this.state.failure === null) return this.props.children;
    return (
      <section class="card says" role="alert">
        <h1>This view failed</h1>
        <p>{this.state.failure}</p>
        <p>The service is not affected; Start, Stop and the other views work.</p>
        <button type="button" onClick={() => this.setState({ failure: null })}>Show it again</button>
      </section>
    );
  }
}
