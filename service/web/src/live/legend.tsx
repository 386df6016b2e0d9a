// The scale of colours with its ticks. Hovering over a part of it dims all tracks that are elsewhere.
import type { ComponentChild } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { ground } from "../app/theme";
import { css, rampColour } from "../colour/depth";
import { ticks, type Volume } from "../scene/volume";
import type { Shown } from "../state/app";
import { sameContent, type Store, useStore } from "../state/store";
import { colouringOf, look, Scales } from "./look";

const WIDE = 0.1;
const scales = new Scales();

export function Legend({ shown, volume, frame_s }: { shown: Store<Shown>; volume: Volume; frame_s: number }): ComponentChild {
  const canvas = useRef<HTMLCanvasElement>(null);
  const shade = useStore(ground, (value) => value);
  const by = useStore(look, (value) => value.by);
  const facts = useRef({ volume, frame_s });
  facts.current = { volume, frame_s };
  const range = useStore(shown, ({ moment }) => colouringOf(look.get(), scales, facts.current.volume, moment.tracks, facts.current.frame_s, "dark").range, sameContent);
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context) return;
    const { width, height } = context.canvas;
    for (let row = 0; row < height; row++) {
      context.fillStyle = css(rampColour(1 - row / (height - 1), shade));
      context.fillRect(0, row, width, 1);
    }
  }, [shade, by]);
  if (by === "track") return <figure class="legend"><figcaption>a colour for each track</figcaption></figure>;
  const [low, high] = range;
  const name = { depth: "depth z / µm", speed: "speed / µm/s", age: "age / s" }[by];
  const dim = (event: PointerEvent): void => {
    const { top, height } = canvas.current!.getBoundingClientRect();
    const at = high - ((event.clientY - top) / height) * (high - low);
    const half = ((high - low) * WIDE) / 2;
    look.change((now) => ({ ...now, only: [at - half, at + half] }));
  };
  return (
    <figure class="legend">
      <figcaption>{name}</figcaption>
      <div class="ramp">
        <canvas ref={canvas} width={14} height={140} aria-hidden="true" onPointerMove={dim} onPointerLeave={() => look.change((now) => ({ ...now, only: null }))} />
        {ticks(low, high, 5).map((value) => (
          <span key={value} style={{ bottom: `${((value - low) / (high - low || 1)) * 100}%` }}>{+value.toPrecision(4)}{by === "depth" && value === 0 ? " focus" : ""}</span>
        ))}
      </div>
    </figure>
  );
}
