// Parts of a run that the library and its own view share.
import type { ComponentChild } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Run } from "../api/client";
import { Delete } from "../parts/delete";
import { api } from "../state/app";

/** A recorded frame of the run, small. */
export function Thumbnail({ run }: { run: Run }): ComponentChild {
  const [url, setUrl] = useState<string | null>(null);
  useEffect(() => {
    if (!run.recording || run.state === "running") return;
    let made: string | null = null;
    let away = false;
    // The middle of the run; a lost frame has no picture, so a frame beside it is tried.
    const middle = Math.floor((run.ledger["grabbed"] ?? 0) / 2);
    void (async () => {
      for (const frame of [middle, middle + 1, 0]) {
        try {
          const content = await api.frame(run.id, frame);
          if (away) return;
          setUrl((made = URL.createObjectURL(content)));
          return;
        } catch {
          // The next one is tried.
        }
      }
    })();
    return () => {
      away = true;
      if (made) URL.revokeObjectURL(made);
    };
  }, [run.id, run.recording, run.state]);
  return url ? <img class="thumbnail" src={url} alt="" /> : <span class="thumbnail" />;
}

export function DeleteRun({ run, done }: { run: Run; done: () => void }): ComponentChild {
  return <Delete what={`run ${run.name || run.id}`} loses="Its tracks, localizations and recorded frames are deleted." remove={() => api.deleteRun(run.id)} done={done} />;
}
