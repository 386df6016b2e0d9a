// The labels of the box in µm. They are HTML text, so they stay sharp.
import type { Vector3 } from "three";
import { ticks, type Volume } from "./volume";

type Place = readonly [number, number, number]; // x, y, z in µm

/** Where a place is on the screen, pixels. */
export type Projection = (x: number, y: number, z: number) => [number, number];

const TICKS = 4;
const OFFSET_PX = 15;
const CLOSE_PX = 15;
const MARGIN_PX = 6;
/** Share of the word at the end of the z axis that stands left of its place, as the style sheet has it. */
const LEFT_OF_END = 0.3;

interface Label {
  element: HTMLElement;
  axis: "x" | "y" | "z";
  value: number;
  name: boolean;
}

export class Labels {
  private labels: Label[] = [];
  private volume: Volume | null = null;

  constructor(private readonly holder: HTMLElement) {}

  setVolume(volume: Volume, stretch = 1): void {
    this.volume = volume;
    this.labels = [];
    this.holder.replaceChildren();
    for (const axis of ["x", "y", "z"] as const) {
      const [low, high] = volume[axis];
      for (const value of ticks(low, high, TICKS)) {
        this.add(axis, value, axis === "z" && value === 0 ? "0 · focus" : String(+value.toPrecision(6)), "tick");
      }
      const times = axis === "z" && stretch !== 1 ? `, drawn ×${stretch}` : "";
      this.add(axis, (low + high) / 2, `${axis} / µm${times}`, "name");
    }
    const [low, high] = volume.z;
    if (high > 0) this.add("z", high, "away from objective ↑", "end");
    if (low < 0) this.add("z", low, "toward objective ↓", "end low");
  }

  /** Put the labels of x and y at the edge that is nearest to the viewer, and those of z at the leftmost edge. */
  place(project: Projection, direction: Vector3): void {
    const volume = this.volume;
    if (!volume) return;
    const { x, y, z } = volume;
    const middle: Place = [(x[0] + x[1]) / 2, (y[0] + y[1]) / 2, (z[0] + z[1]) / 2];
    const nearX = direction.x > 0.001 ? x[1] : x[0];
    const nearY = direction.z > -0.001 ? y[1] : y[0];
    const corners: Place[] = x.flatMap((a) => y.map((b): Place => [a, b, middle[2]]));
    const left = corners.reduce((best, corner) => (project(...corner)[0] < project(...best)[0] - 0.5 ? corner : best));
    const [flat, level] = [direction.y > 0.97, direction.y < 0.1];
    const [alongX, alongY] = [Math.abs(direction.x) > 0.985, Math.abs(direction.z) > 0.985];
    const centre = project(...middle);
    const taken: [number, number][] = [];
    for (const { element, axis, value, name } of this.labels) {
      const on: Place = axis === "x" ? [value, nearY, z[0]] : axis === "y" ? [nearX, value, z[0]] : [left[0], left[1], value];
      const [px, py] = project(...on);
      // Outward from the middle of the box, more for the axis names than for the numbers.
      const away = name ? 2.3 : 1;
      const edge: Place = axis === "x" ? [middle[0], nearY, z[0]] : [nearX, middle[1], z[0]];
      const [dx, dy] = axis === "z" ? [-1, 0] : level ? [0, 1] : outward(project(...edge), centre);
      const wide = axis === "z" && name ? 24 : axis !== "z" && name ? Math.abs(dx) * 12 : 0;
      const turn = axis === "z" && name ? " rotate(-90deg)" : "";
      // Words at the z axis stay inside the pane, whose left edge may be near the box.
      const least = element.classList.contains("end") ? LEFT_OF_END * element.offsetWidth + MARGIN_PX : axis === "z" && name ? 2 * MARGIN_PX : -Infinity;
      const [atX, atY] = [Math.max(px + dx * (OFFSET_PX * away + wide), least), py + dy * OFFSET_PX * away];
      element.style.transform = `translate(${atX}px, ${atY}px)${turn}`;
      // An axis along the line of sight has no extent; labels that would lie on each other are left out.
      const hidden = (axis === "z" && flat) || (level && ((axis === "y" && alongY) || (axis === "x" && alongX)));
      const crowded = !name && !element.classList.contains("end") && taken.some(([tx, ty]) => Math.abs(tx - atX) < CLOSE_PX * 1.6 && Math.abs(ty - atY) < CLOSE_PX);
      element.hidden = hidden || crowded;
      if (!element.hidden) taken.push([atX, atY]);
    }
  }

  private add(axis: Label["axis"], value: number, text: string, kind: string): void {
    const element = document.createElement("span");
    element.className = `label ${axis} ${kind}`;
    element.textContent = text;
    this.holder.append(element);
    this.labels.push({ element, axis, value, name: kind === "name" });
  }
}

function outward([x, y]: [number, number], [cx, cy]: [number, number]): [number, number] {
  const length = Math.hypot(x - cx, y - cy) || 1;
  return [(x - cx) / length, (y - cy) / length];
}
