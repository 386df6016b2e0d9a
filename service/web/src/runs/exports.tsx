// Exports of a run, each with one line on how to open it.
import type { ComponentChild } from "preact";
import { useState } from "preact/hooks";
import type { Run } from "../api/client";
import { sentence } from "../api/problem";
import { count, fileName, save } from "../parts/words";
import { api, jobs } from "../state/app";
import type { Recorded } from "../tracks/recorded";
import type { Replay } from "./replay";
import { TABLES } from "./table_files";

const WHOLE = [
  { format: "parquet", name: "Parquet", open: "pandas.read_parquet or polars.read_parquet; R: arrow::read_parquet." },
  { format: "trackmate", name: "TrackMate XML", open: "Fiji: Plugins, Tracking, Load a TrackMate file." },
  { format: "geff", name: "GEFF", open: "Unzip, then geff.read in Python, or napari with its plug-in." },
] as const;

const POLL_MS = 700;
/** Tracks that a request may name. */
const MOST_NAMED = 3_000;

interface Props {
  run: Run;
  recorded: Recorded;
  /** Tracks that were read, with those that pass no filter. */
  all: number;
  revision: number;
  complete: boolean;
  replay: Replay;
}

export function Exports({ run, recorded, all, revision, complete, replay }: Props): ComponentChild {
  const [busy, setBusy] = useState<string | null>(null);
  const [fault, setFault] = useState("");
  const name = (file: string): string => `${fileName(run.name || run.id)}-${file}`;
  // The service takes the filters as a list of tracks.
  const filtered = recorded.tracks.length < all;
  const some = filtered && recorded.tracks.length <= MOST_NAMED;
  const whole = async (format: string): Promise<void> => {
    setBusy(format);
    setFault("");
    try {
      const { id } = await api.export(run.id, { format, revision, ...(some ? { tracks: recorded.tracks.map((track) => track.id) } : {}) });
      for (;;) {
        const job = jobs.get().find((each) => each.id === id && each.state === "done") ?? (await api.job(id));
        if (job.state === "done") break;
        if (job.error || job.state === "cancelled") throw new Error(job.error ? `${job.error.problem} ${job.error.remedy}` : "The export was cancelled.");
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
      const { content, name: file } = await api.jobResult(id);
      save(content, file);
    } catch (error) {
      setFault(error instanceof Error && error.constructor === Error ? error.message : sentence(error));
    } finally {
      setBusy(null);
    }
  };
  return (
    <div class="exports">
      <h2>Tracks that pass the filters</h2>
      {complete ? null : <p class="wrong">Not all tracks of this run are on the page. The files below hold those that are; those that the service makes hold all, where no filter is set.</p>}
      <ul>
        {TABLES.map((table) => (
          <li key={table.name}>
            <button type="button" class="small" data-export={table.file} disabled={!recorded.tracks.length} onClick={() => save(new Blob([table.text(recorded.tracks)], { type: "text/csv" }), name(table.file))}>{table.name}</button>
            <p class="hint">{table.open}</p>
          </li>
        ))}
      </ul>
      <h2>{some ? "Made by the service, of the same tracks" : "Made by the service, of the whole run"}, revision {revision}</h2>
      {filtered && !some ? <p class="wrong">More than {count(MOST_NAMED)} tracks pass the filters; these files hold all tracks of the run.</p> : null}
      {fault ? <p class="wrong" role="alert">{fault}</p> : null}
      <ul>
        {WHOLE.map(({ format, name: words, open }) => (
          <li key={format}>
            <button type="button" class="small" disabled={busy !== null || !recorded.tracks.length} aria-busy={busy === format} onClick={() => void whole(format)}>{busy === format ? <i class="spinner" /> : null}{words}</button>
            <p class="hint">{open}</p>
          </li>
        ))}
      </ul>
      <h2>Pictures</h2>
      <ul>
        <li><p class="hint">Frames: {run.recording ? <>the folder <code>{run.recording}</code> in the data folder is OME-Zarr; drag it into napari, or open it in Fiji with its N5 reader.</> : "not recorded."}</p></li>
        <li><p class="hint">Scene as PNG: in the menu Show of the 3D pane.</p></li>
        <li><Movie replay={replay} name={name("scene.webm")} /><p class="hint">Plays in any browser and in VLC. Press again to end it; the view is recorded as it is shown.</p></li>
      </ul>
    </div>
  );
}

function Movie({ replay, name }: { replay: Replay; name: string }): ComponentChild {
  const [recorder, setRecorder] = useState<MediaRecorder | null>(null);
  const begin = (): void => {
    const canvas = document.querySelector<HTMLCanvasElement>("#scene-canvas");
    if (!canvas) return;
    const made = new MediaRecorder(canvas.captureStream(30), { mimeType: "video/webm" });
    const parts: Blob[] = [];
    made.ondataavailable = ({ data }) => parts.push(data);
    made.onstop = () => {
      save(new Blob(parts, { type: "video/webm" }), name);
      setRecorder(null);
    };
    made.start(500);
    setRecorder(made);
    if (!replay.playing.get().on) replay.toggle();
  };
  if (typeof MediaRecorder === "undefined") return <p class="hint">This browser records no movies.</p>;
  return <button type="button" class="small" aria-pressed={recorder !== null} onClick={() => (recorder ? recorder.stop() : begin())}>{recorder ? "End the movie" : "Movie (WebM)"}</button>;
}
