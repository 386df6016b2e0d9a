// The sheet that starts a run. It remembers the last choice of everything but the name and the notes.
import type { ComponentChild } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Model } from "../api/client";
import { sentence } from "../api/problem";
import { api, happen, instrument, system } from "../state/app";
import { recordingGbPerHour } from "../state/status";
import { useStore } from "../state/store";
import { hours } from "../state/trust";

/** The last choice; recording is chosen anew for each run, because it fills the disk. */
const last = { duration: "", model: "" };

export function StartSheet({ close }: { close: () => void }): ComponentChild {
  const [fault, setFault] = useState("");
  const [record, setRecord] = useState(false);
  const [models, setModels] = useState<readonly Model[]>([]);
  const form = useRef<HTMLFormElement>(null);
  const rate = useStore(instrument, ({ status }) => (status?.microscope ? recordingGbPerHour(status.microscope) : null));
  const free = useStore(system, (facts) => facts?.disk?.free_gb ?? null);
  const active = useStore(instrument, ({ status }) => status?.active_model_id ?? null);
  useEffect(() => {
    form.current?.querySelector<HTMLInputElement>("[name=name]")?.select();
    api.models().then(({ items }) => setModels(items), () => undefined);
    const escape = (event: KeyboardEvent): void => {
      if (event.key === "Escape") close();
    };
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  }, []);
  const submit = async (): Promise<void> => {
    const values = new FormData(form.current!);
    const duration = String(values.get("duration") ?? "").trim();
    last.duration = duration;
    last.model = String(values.get("model") ?? "");
    const wanted = {
      name: String(values.get("name") ?? "").trim(),
      notes: String(values.get("notes") ?? ""),
      record,
      ...(duration ? { duration_s: Number(duration) * 60 } : {}),
      ...(last.model && last.model !== active ? { model: last.model } : {}),
    };
    setFault("");
    happen({ kind: "pending", now: performance.now(), what: "start" });
    try {
      await api.startRun(wanted);
      close();
    } catch (error) {
      setFault(sentence(error));
    } finally {
      happen({ kind: "pending", now: performance.now(), what: null });
    }
  };
  const cost = rate === null ? "" : `${rate.toFixed(rate < 10 ? 1 : 0)} GB an hour${free === null ? "" : `, ${free.toFixed(0)} GB free: ${hours(free / rate)}`}`;
  return (
    <form ref={form} class="sheet card" aria-label="Start a run" onSubmit={(event) => { event.preventDefault(); void submit(); }}>
      <label>Name<input name="name" type="text" maxLength={200} defaultValue={defaultName()} /></label>
      <label>Notes<textarea name="notes" rows={2} maxLength={10000} /></label>
      <label class="check"><input type="checkbox" id="record" checked={record} onInput={(event) => setRecord(event.currentTarget.checked)} />
        <span>Record frames {cost ? <small>{cost}</small> : null}</span></label>
      <label>Duration, minutes<input name="duration" type="number" min="0.05" max="10000" step="any" placeholder="until stopped" defaultValue={last.duration} /></label>
      <label>Model
        <select name="model" defaultValue={last.model || active || ""}>
          {models.length ? models.map(({ id, name }) => <option key={id} value={id} selected={id === (last.model || active)}>{name || id}{id === active ? " (active)" : ""}</option>) : <option value="">active</option>}
        </select>
      </label>
      {fault ? <p class="wrong" role="alert">{fault}</p> : null}
      <div class="row end">
        <button type="button" onClick={close}>Close</button>
        <button type="submit" class="primary">Start</button>
      </div>
    </form>
  );
}

function defaultName(): string {
  const now = new Date();
  return `${now.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${now.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })}`;
}
