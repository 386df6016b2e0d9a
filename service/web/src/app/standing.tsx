// Bars that stay until they are dismissed: a run that a restart of the engine interrupted.
import type { ComponentChild } from "preact";
import { happen, instrument } from "../state/app";
import { useStore } from "../state/store";

export function Standing(): ComponentChild {
  const interrupted = useStore(instrument, (state) => state.interrupted);
  const run = useStore(instrument, (state) => state.run);
  if (!interrupted) return null;
  const at = new Date(Date.now() - performance.now() + interrupted.at).toLocaleTimeString("en-GB");
  return (
    <div class="standing" role="alert" id="interrupted">
      <span>
        The engine was restarted: run {interrupted.run} was interrupted at {at}; all until then is kept.
        {run ? ` Run ${run} is on now.` : ""}
      </span>
      <a class="button" href={`#/runs/${interrupted.run}`}>Open the interrupted run</a>
      <button type="button" onClick={() => happen({ kind: "dismiss", now: performance.now(), what: "interrupted" })}>Dismiss</button>
    </div>
  );
}
