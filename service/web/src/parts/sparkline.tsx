// A small curve of one quantity over time, with its range.
import type { ComponentChild } from "preact";

const WIDTH = 260;
const HEIGHT = 44;
const MOST = 130;

interface Props {
  t: ArrayLike<number>;
  values: ArrayLike<number>;
  from: number;
  to: number;
  label: string;
}

export function Sparkline({ t, values, from, to, label }: Props): ComponentChild {
  let [low, high] = [Infinity, -Infinity];
  for (let at = from; at < to; at++) {
    low = Math.min(low, values[at]!);
    high = Math.max(high, values[at]!);
  }
  const span = Math.max(high - low, 0.5);
  const [begin, end] = [t[from]!, t[to - 1]!];
  const step = Math.max(1, Math.floor((to - from) / MOST));
  const points: string[] = [];
  for (let at = from; at < to; at += step) {
    const x = ((t[at]! - begin) / (end - begin || 1)) * WIDTH;
    points.push(`${x.toFixed(1)},${(HEIGHT - 3 - ((values[at]! - low) / span) * (HEIGHT - 6)).toFixed(1)}`);
  }
  return (
    <figure class="spark">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`${label}, ${low.toFixed(1)} to ${high.toFixed(1)} µm`}>
        <polyline points={points.join(" ")} />
      </svg>
      <figcaption><span>{high.toFixed(1)}</span><span>z / µm, {(end - begin).toFixed(0)} s</span><span>{low.toFixed(1)}</span></figcaption>
    </figure>
  );
}
