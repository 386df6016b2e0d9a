// The camera view without a run: its switch, and what stands in the place of the picture while there is none.
import type { ComponentChild } from "preact";
import { useState } from "preact/hooks";
import { sentence } from "../api/problem";
import { api, instrument, notice } from "../state/app";
import { useStore } from "../state/store";

/** The view ends by itself, because its light bleaches the sample. */
const DURATION_S = 1800;

type Owner = "nobody" | "live" | "other";

function useOwner(): Owner {
  return useStore(instrument, ({ status, run }): Owner => {
    const kind = (status?.owner ?? status?.microscope?.owner)?.kind;
    if (kind === "live") return "live";
    return kind || run !== null || !status?.ready ? "other" : "nobody";
  });
}

function useSwitch(): { busy: boolean; turn: (on: boolean) => Promise<void> } {
  const [busy, setBusy] = useState(false);
  const turn = async (on: boolean): Promise<void> => {
    setBusy(true);
    try {
      await api.setLive(on, on ? DURATION_S : null);
    } catch (error) {
      notice(sentence(error));
    } finally {
      setBusy(false);
    }
  };
  return { busy, turn };
}

/** The switch in the head of the picture; nothing while a run or a sweep shows the camera anyway. */
export function CameraSwitch(): ComponentChild {
  const owner = useOwner();
  const { busy, turn } = useSwitch();
  if (owner === "other") return null;
  return (
    <button type="button" class="small" id="camera" aria-pressed={owner === "live"} disabled={busy} title="Shows the camera without a run. A run or a sweep takes over by itself." onClick={() => void turn(owner !== "live")}>
      {owner === "live" ? "Camera off" : "Camera on"}
    </button>
  );
}

export function ShowCamera(): ComponentChild {
  const owner = useOwner();
  const { busy, turn } = useSwitch();
  const words = useStore(instrument, ({ status, run }) => (run ? "The first frame comes in a moment." : status?.state === "calibrating" ? "A picture comes with the first plane." : "No camera picture."));
  if (owner === "live") return <p>The first frame comes in a moment.</p>;
  if (owner === "other") return <p>{words}</p>;
  return (
    <div>
      <button type="button" class="primary" disabled={busy} onClick={() => void turn(true)}>{busy ? <i class="spinner" /> : null}Show the camera</button>
      <p>Nothing is recorded. It ends by itself after 30 minutes.</p>
    </div>
  );
}
