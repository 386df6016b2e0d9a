// The card of the run that has just ended, or of the newest one: what it holds, and where to go from here.
import type { ComponentChild } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Run } from "../api/client";
import { go } from "../app/route";
import { askToStart } from "../app/top_bar";
import { count, minutes } from "../parts/words";
import { api, happen, instrument } from "../state/app";
import { useStore } from "../state/store";

export function LastRun(): ComponentChild {
  const ended = useStore(instrument, (state) => state.ended);
  const [run, setRun] = useState<Run | null>(null);
  const [tracks, setTracks] = useState<string>("");
  useEffect(() => {
    let away = false;
    void (async () => {
      try {
        const found = ended ? await api.run(ended) : ((await api.runs({ limit: 1 })).items[0] ?? null);
        if (away || !found) return;
        setRun(found);
        const { items, next } = await api.tracks(found.id, { limit: 1000, min_length: 2 });
        if (!away) setTracks(`${count(items.length)}${next ? " or more" : ""} tracks`);
      } catch {
        // The trust sentence says that the service does not answer.
      }
    })();
    return () => void (away = true);
  }, [ended]);
  const seconds = run?.ended_at ? (Date.parse(run.ended_at) - Date.parse(run.started_at)) / 1000 : null;
  return (
    <div class={ended ? "state-card card" : "state-card card low"} id="empty" role="status">
      <h3 id="empty-title">Ready</h3>
      {run ? (
        <p id="empty-text">
          {ended ? "The run" : "The last run"} <b>{run.name || run.id}</b>: {[seconds === null ? null : minutes(seconds), tracks || null, `${count(run.ledger["lost"])} frames lost`].filter(Boolean).join(" · ")}
        </p>
      ) : <p id="empty-text">No run is on. Start one to see tracks.</p>}
      <div class="row center">
        {run ? <button type="button" onClick={() => go("runs", run.id)}>Open the run</button> : null}
        {run ? <button type="button" onClick={() => go("runs", run.id, { at: "export" })}>Export</button> : null}
        <button type="button" class="primary" onClick={askToStart}>New run</button>
        {ended ? <button type="button" class="quiet" onClick={() => happen({ kind: "dismiss", now: performance.now(), what: "ended" })}>Dismiss</button> : null}
      </div>
    </div>
  );
}
