// The live view: controls, camera, 3D, numbers, and the last minute.
import type { ComponentChild } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useKeys } from "../app/help";
import { act, askToStart } from "../app/top_bar";
import { UNKNOWN, type Volume } from "../scene/volume";
import { instrument, shown } from "../state/app";
import { painted } from "../state/painted";
import { cameraPixelUm, volumeOf } from "../state/status";
import { sameContent, useStore } from "../state/store";
import { followSelection } from "../tracks/selected_address";
import { cardOf } from "../state/trust";
import { Controls } from "./controls";
import { Drawer } from "./drawer";
import { ImagePane } from "./image_pane";
import { Inspector } from "./inspector";
import { LastRun } from "./last_run";
import { ScenePane } from "./scene_pane";
import { CameraSwitch, ShowCamera } from "./show_camera";

const PANES = ["Image", "3D", "Numbers", "Controls"] as const;
type Pane = (typeof PANES)[number];

export function Live(): ComponentChild {
  const volume = useStore(instrument, ({ status }): Volume => (status ? volumeOf(status) : null) ?? UNKNOWN, sameContent);
  const optics = useStore(
    instrument,
    ({ status }) => ({
      pixelUm: status?.pixel_size_um ?? (status?.microscope ? cameraPixelUm(status.microscope) : null) ?? 0.65,
      frame_s: status?.microscope?.frame_period_s ?? 0.01,
      bitDepth: status?.microscope?.description?.bit_depth ?? null,
    }),
    sameContent,
  );
  const frozen = useStore(instrument, (state) => state.link !== "open");
  const [pane, setPane] = useState<Pane>("3D");
  useEffect(followSelection, []);
  const [side, setSide] = useState<"controls" | "numbers" | null>(null);
  const [large, setLarge] = useState<string | null>(null);
  const under = useRef<string | null>(null);
  useKeys([
    { key: "f", shown: "F", words: "Enlarge the pane under the pointer; again: all panes", run: () => setLarge(large ? null : under.current) },
    { key: "r", shown: "R", words: "Open the sheet that starts a run", run: () => instrument.get().run === null && askToStart() },
  ]);
  const empty = useStore(instrument, ({ run, status }) => (run ? "No tracks at this time." : status?.ready ? "Tracks appear here while a run is on." : "No tracks."));
  return (
    <div
      class="live" data-pane={pane} data-side={side ?? ""} data-large={large ?? ""} data-frozen={frozen ? "yes" : ""}
      onPointerOver={(event) => (under.current = (event.target as HTMLElement).closest<HTMLElement>("section[data-pane]")?.dataset["pane"] ?? null)}
    >
      <h1 class="unseen">Live</h1>
      <div class="switch" role="group" aria-label="Pane">
        {PANES.map((name) => <button key={name} type="button" class="small" aria-pressed={pane === name} onClick={() => setPane(name)}>{name}</button>)}
      </div>
      <div class="side-switch">
        <button type="button" class="small" aria-pressed={side === "controls"} onClick={() => setSide(side === "controls" ? null : "controls")}>Controls</button>
        <button type="button" class="small" aria-pressed={side === "numbers"} onClick={() => setSide(side === "numbers" ? null : "numbers")}>Numbers</button>
      </div>
      <Controls />
      <div class="middle">
        <ImagePane shown={shown} volume={volume} {...optics} empty={<ShowCamera />}><CameraSwitch /></ImagePane>
        <Divider />
        <ScenePane shown={shown} volume={volume} frame_s={optics.frame_s} painted={(captured_s) => painted.add(Date.now() - captured_s * 1000)}>
          <StateCard />
        </ScenePane>
      </div>
      <Inspector shown={shown} volume={volume} frame_s={optics.frame_s} empty={empty} />
      <Drawer />
    </div>
  );
}

/** What a state says in the 3D pane. It never covers tracks that are still true. */
function StateCard(): ComponentChild {
  const card = useStore(instrument, cardOf, sameContent);
  const ready = useStore(instrument, (state) => state.status?.state === "ready" && state.run === null && state.link === "open");
  const connecting = useStore(instrument, (state) => state.status === null && state.link !== "lost" && cardOf(state) === null);
  if (card) {
    return (
      <div class="state-card card" data-tone={card.tone} role="status" id="empty">
        <h3 id="empty-title">{card.title}</h3>
        <p id="empty-text">{card.words}</p>
        {card.actions.map((action) => <button key={action.words} type="button" class="primary" onClick={() => void act(action)}>{action.words}</button>)}
      </div>
    );
  }
  if (connecting) return <div class="state-card skeleton" id="empty"><h3 id="empty-title">Connecting</h3></div>;
  return ready ? <LastRun /> : null;
}

/** The line between image and 3D, which is dragged or moved by arrow keys. */
function Divider(): ComponentChild {
  const line = useRef<HTMLDivElement>(null);
  const [part, setPart] = useState(50);
  useEffect(() => line.current!.parentElement!.style.setProperty("--part", `${part}%`), [part]);
  const move = (event: PointerEvent): void => {
    if (!line.current!.hasPointerCapture(event.pointerId)) return;
    const { left, width } = line.current!.parentElement!.getBoundingClientRect();
    setPart(Math.min(80, Math.max(20, ((event.clientX - left) / width) * 100)));
  };
  return (
    <div
      ref={line} class="divider" role="separator" tabIndex={0} aria-label="Width of the camera picture" aria-orientation="vertical" aria-valuenow={Math.round(part)} aria-valuemin={20} aria-valuemax={80}
      onPointerDown={(event) => line.current!.setPointerCapture(event.pointerId)} onPointerMove={move}
      onKeyDown={(event) => {
        const step = { ArrowLeft: -5, ArrowRight: 5 }[event.key];
        if (step) setPart(Math.min(80, Math.max(20, part + step)));
      }}
    />
  );
}

