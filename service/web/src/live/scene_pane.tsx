// The tracks in 3D, with views, colours and trails; in two dimensions where there is no WebGL.
import type { ComponentChild } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useKeys } from "../app/help";
import { remember, route } from "../app/route";
import { ground } from "../app/theme";
import type { ColourBy } from "../colour/colouring";
import { ScaleBar } from "../parts/scale_bar";
import { save } from "../parts/words";
import { FlatScene } from "../scene/flat";
import { type View, VIEWS } from "../scene/orbit";
import { TrackScene } from "../scene/scene";
import type { Volume } from "../scene/volume";
import type { Shown } from "../state/app";
import { sameContent, Store, useStore } from "../state/store";
import { hover, pick, selection } from "../tracks/selection";
import { Legend } from "./legend";
import { colouringOf, look, Scales } from "./look";

interface Props {
  shown: Store<Shown>;
  volume: Volume;
  frame_s: number;
  /** A box that is marked in the volume. */
  box?: Volume | null;
  children?: ComponentChild;
  /** Called when a moment is on the screen. */
  painted?: (captured_s: number) => void;
}

const STRETCHES: readonly (readonly [number, string])[] = [[0, "Auto"], [1, "×1"], [2, "×2"], [5, "×5"]];

export function ScenePane({ shown, volume, frame_s, box = null, children, painted }: Props): ComponentChild {
  const canvas = useRef<HTMLCanvasElement>(null);
  const labels = useRef<HTMLDivElement>(null);
  const scene = useRef<TrackScene | FlatScene | null>(null);
  const facts = useRef({ volume, frame_s });
  facts.current = { volume, frame_s };
  const [flat, setFlat] = useState(false);
  const [drawn, setDrawn] = useState<{ umPerPx: number | null; view: View | null; stretch: number }>({ umPerPx: null, view: "3D", stretch: 1 });
  const options = useStore(look, (value) => value);
  const shade = useStore(ground, (value) => value);
  const turn = (view: View): void => {
    if (scene.current instanceof TrackScene) scene.current.orbit.turnTo(view);
    remember({ view: view === "3D" ? "" : view });
  };
  useEffect(() => {
    const events = {
      picked: pick,
      hovered: hover,
      drawn: (now: { umPerPx: number | null; view: View | null; stretch: number }) =>
        setDrawn((before) => (sameContent({ ...before, umPerPx: before.umPerPx?.toPrecision(3) }, { ...now, umPerPx: now.umPerPx?.toPrecision(3) }) ? before : now)),
    };
    let view: TrackScene | FlatScene;
    try {
      view = new TrackScene(canvas.current!, labels.current!, events);
    } catch {
      // A canvas that has tried WebGL gives no other context.
      const fresh = canvas.current!.cloneNode() as HTMLCanvasElement;
      canvas.current!.replaceWith(fresh);
      view = new FlatScene(fresh, events);
      setFlat(true);
    }
    scene.current = view;
    const scales = new Scales();
    let last: unknown = null;
    const draw = (): void => {
      const { moment, trails, current } = shown.get();
      const fresh = moment !== last;
      last = moment;
      view.update(
        {
          tracks: moment.tracks,
          trails,
          colouring: colouringOf(look.get(), scales, facts.current.volume, moment.tracks, facts.current.frame_s, ground.get()),
          selection: selection.get(),
          current,
        },
        fresh && painted && moment.tracks.captured_s ? () => painted(moment.tracks.captured_s) : null,
      );
    };
    const ends = [shown, selection, look].map((store) => (store as Store<unknown>).listen(draw));
    draw();
    const asked = VIEWS.find((name) => name === route.get().values["view"]);
    if (asked && view instanceof TrackScene) view.orbit.turnTo(asked);
    return () => {
      ends.forEach((end) => end());
      view.end();
    };
  }, [shown]);
  useEffect(() => scene.current!.setVolume(volume, box), [volume, box]);
  useEffect(() => {
    scene.current!.setOptions(options, shade);
    shown.set({ ...shown.get() });
  }, [options.trail_s, options.stretch, options.perspective, shade]);
  useKeys([
    ...VIEWS.map((view, number) => ({ key: String(number), shown: String(number), words: `View ${view}`, run: () => turn(view) })),
    { key: "h", shown: "H", words: "Fit the box into the view", run: () => scene.current instanceof TrackScene && scene.current.orbit.fit() },
    { key: "p", shown: "P", words: "Perspective on or off", run: () => look.change((now) => ({ ...now, perspective: !now.perspective })) },
  ]);
  const picture = async (): Promise<void> => {
    const content = await scene.current!.picture();
    if (content) save(content, "tracks.png");
  };
  return (
    <section class="pane scene" id="scene" aria-label="Tracks in 3D" data-pane="3D">
      <div class="pane-head">
        <h2 class="unseen">Tracks in 3D</h2>
        {flat ? <span class="aside warn" id="no-webgl">! No WebGL in this browser: shown in two dimensions</span> : (
          <div class="group" role="group" aria-label="View">
            {VIEWS.map((view, number) => (
              <button key={view} type="button" class="small" title={`Key ${number}`} aria-pressed={drawn.view === view} onClick={() => turn(view)}>{view}</button>
            ))}
            <button type="button" class="small" title="Fit (H)" onClick={() => scene.current instanceof TrackScene && scene.current.orbit.fit()}>Fit</button>
          </div>
        )}
        <span class="gap" />
        <details class="menu">
          <summary class="button small">Show</summary>
          <div class="card sheet">
            <label>Colour by
              <select value={options.by} onInput={(event) => look.change((now) => ({ ...now, by: event.currentTarget.value as ColourBy, only: null }))}>
                {["depth", "speed", "age", "track"].map((by) => <option key={by}>{by}</option>)}
              </select>
            </label>
            <label>Trail, {options.trail_s} s
              <input type="range" min="-1" max="4.907" step="0.1" value={Math.log2(options.trail_s)} aria-valuetext={`${options.trail_s} s`}
                onInput={(event) => look.change((now) => ({ ...now, trail_s: +(2 ** Number(event.currentTarget.value)).toPrecision(2) }))} />
            </label>
            <label>Stretch of z
              <select value={String(options.stretch)} onInput={(event) => look.change((now) => ({ ...now, stretch: Number(event.currentTarget.value) }))}>
                {STRETCHES.map(([value, words]) => <option key={value} value={String(value)}>{words}</option>)}
              </select>
            </label>
            <label class="check"><input type="checkbox" checked={options.perspective} onInput={() => look.change((now) => ({ ...now, perspective: !now.perspective }))} /> Perspective (P)</label>
            <button type="button" class="small" onClick={() => void picture()}>Save as PNG</button>
          </div>
        </details>
      </div>
      <div class="volume">
        <canvas
          ref={canvas} id="scene-canvas" tabIndex={0} role="img"
          aria-label="Tracks in the imaged volume. Arrow keys turn the view, plus and minus zoom, H fits it."
        />
        <div class="labels" id="scene-labels" ref={labels} aria-hidden="true" />
        <Legend shown={shown} volume={volume} frame_s={frame_s} />
        {flat ? null : <ScaleBar umPerPx={drawn.umPerPx} />}
        <p class="key" aria-hidden="true"><span><i class="dot" />seen</span><span><i class="dot open" />coasting</span><span><i class="dot near" />within 3 µm of focus</span></p>
        {children}
      </div>
    </section>
  );
}
