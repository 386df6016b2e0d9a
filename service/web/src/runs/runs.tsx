// The library of runs: search, order, and the way to each.
import type { ComponentChild } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Run } from "../api/client";
import { sentence } from "../api/problem";
import { go } from "../app/route";
import { count, figure, minutes, moment } from "../parts/words";
import { api, instrument } from "../state/app";
import { useModelName } from "../state/models";
import { useStore } from "../state/store";
import { DeleteRun, Thumbnail } from "./run_parts";

const STATES = ["", "running", "finished", "interrupted", "failed"] as const;
const ORDERS = ["newest", "oldest", "name", "longest"] as const;

export function Runs(): ComponentChild {
  const [search, setSearch] = useState("");
  const [state, setState] = useState<(typeof STATES)[number]>("");
  const [order, setOrder] = useState<(typeof ORDERS)[number]>("newest");
  const [found, setFound] = useState<{ items: Run[]; next: string | null } | null>(null);
  const [fault, setFault] = useState("");
  const [changed, setChanged] = useState(0);
  const open = useStore(instrument, ({ link }) => link === "open");
  const run = useStore(instrument, (value) => value.run);
  const read = (cursor?: string): Promise<{ items: Run[]; next: string | null }> => api.runs({ limit: 30, order, ...(search ? { search } : {}), ...(state ? { state } : {}), ...(cursor ? { cursor } : {}) });
  useEffect(() => {
    if (!open) return;
    let away = false;
    const timer = setTimeout(() => {
      read().then(
        (page) => {
          if (away) return;
          setFault("");
          setFound(page);
        },
        (error: unknown) => !away && setFault(sentence(error)),
      );
    }, 200);
    return () => {
      away = true;
      clearTimeout(timer);
    };
  }, [search, state, order, open, run, changed]);
  const more = (): void => {
    read(found!.next!).then(({ items, next }) => setFound({ items: [...found!.items, ...items], next }), (error: unknown) => setFault(sentence(error)));
  };
  return (
    <div class="sheet-page">
      <header>
        <h1>Runs</h1>
        <span class="gap" />
        <label class="check">Search <input type="search" id="search" value={search} placeholder="name, notes or id" onInput={(event) => setSearch(event.currentTarget.value)} /></label>
        <label class="check">State
          <select value={state} onInput={(event) => setState(event.currentTarget.value as (typeof STATES)[number])}>{STATES.map((name) => <option key={name} value={name}>{name || "all"}</option>)}</select>
        </label>
        <label class="check">Order
          <select value={order} onInput={(event) => setOrder(event.currentTarget.value as (typeof ORDERS)[number])}>{ORDERS.map((name) => <option key={name}>{name}</option>)}</select>
        </label>
      </header>
      {fault ? <p class="wrong" role="alert">{fault}</p> : null}
      <div class="card scroll" tabIndex={0} role="region" aria-label="Runs">
        <table class="list runs">
          <thead><tr><th scope="col"><span class="unseen">picture</span></th><th scope="col">name</th><th scope="col">notes</th><th scope="col">started</th><th scope="col" class="number">duration</th><th scope="col" class="number">frames</th><th scope="col" class="number">lost</th><th scope="col">recorded</th><th scope="col">model</th><th scope="col">state</th><th scope="col"><span class="unseen">actions</span></th></tr></thead>
          <tbody>
            {(found?.items ?? []).map((item) => <Row key={item.id} run={item} changed={() => setChanged(changed + 1)} />)}
          </tbody>
        </table>
        {found && !found.items.length ? <p class="hint">{search || state ? "No run matches." : "No run yet. Start one on the live view."}</p> : null}
      </div>
      {found?.next ? <button type="button" onClick={more}>More runs</button> : null}
    </div>
  );
}

export function seconds({ started_at, ended_at }: Run): number | null {
  return ended_at ? (Date.parse(ended_at) - Date.parse(started_at)) / 1000 : null;
}

function Row({ run, changed }: { run: Run; changed: () => void }): ComponentChild {
  const { exposed, lost, skipped, recorded } = run.ledger;
  const gone = (lost ?? 0) + (skipped ?? 0);
  const long = seconds(run);
  const model = useModelName(run.model_id);
  return (
    <tr class="opens" onClick={(event) => !(event.target as HTMLElement).closest("button, a, dialog") && go("runs", run.id)}>
      <td><Thumbnail run={run} /></td>
      <th scope="row"><a href={`#/runs/${run.id}`}>{run.name || run.id}</a>{run.name ? <><br /><span class="aside">{run.id}</span></> : null}</th>
      <td class="notes">{run.notes}</td>
      <td>{moment(run.started_at)}</td>
      <td class="number">{long === null ? "–" : minutes(long)}</td>
      <td class="number">{count(exposed)}</td>
      <td class={`number ${gone ? "warn" : ""}`}>{exposed ? `${gone ? "! " : ""}${figure((100 * gone) / exposed, 2)} %` : "–"}</td>
      <td>{run.recording ? `${count(recorded)} frames` : "no"}</td>
      <td title={run.model_id}>{model}</td>
      <td class={run.state === "interrupted" || run.state === "failed" ? "warn" : ""} title={run.problem ?? ""}>{run.state}</td>
      <td>{run.state === "running" ? null : <DeleteRun run={run} done={changed} />}</td>
    </tr>
  );
}
