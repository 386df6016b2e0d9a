// A scale bar of a round length.
import type { ComponentChild } from "preact";

const WANTED_PX = 90;

export function roundLength(um: number): number {
  const power = 10 ** Math.floor(Math.log10(um));
  return ([5, 2, 1].find((factor) => factor * power <= um) ?? 1) * power;
}

export function ScaleBar({ umPerPx }: { umPerPx: number | null }): ComponentChild {
  if (umPerPx === null || !(umPerPx > 0)) return null;
  const length = roundLength(umPerPx * WANTED_PX);
  return (
    <div class="scale-bar" aria-label={`Scale bar of ${length} µm`} role="img">
      <i style={{ width: `${length / umPerPx}px` }} />
      <span>{length >= 1 ? length : +length.toPrecision(1)} µm</span>
    </div>
  );
}
