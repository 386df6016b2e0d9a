// The box around the imaged volume, its floor, and its labels in µm. Labels are HTML text, so they stay sharp.
import { BufferGeometry, Float32BufferAttribute, type PerspectiveCamera, Vector3 } from "three";
import { ticks, type Volume } from "./volume";

type Place = readonly [number, number, number]; // x, y, z in µm

const TICKS = 4;
const OFFSET_PX = 16;

/** The optical axis points up on the screen. */
function inScene([x, y, z]: Place): Vector3 {
  return new Vector3(x, z, y);
}

function lines(places: Place[]): BufferGeometry {
  const flat = places.flatMap(([x, y, z]) => [x, z, y]);
  return new BufferGeometry().setAttribute("position", new Float32BufferAttribute(flat, 3));
}

export function boxEdges({ x, y, z }: Volume): BufferGeometry {
  const places: Place[] = [];
  for (const i of [0, 1] as const) {
    for (const j of [0, 1] as const) {
      places.push([x[0], y[i], z[j]], [x[1], y[i], z[j]]);
      places.push([x[i], y[0], z[j]], [x[i], y[1], z[j]]);
      places.push([x[i], y[j], z[0]], [x[i], y[j], z[1]]);
    }
  }
  return lines(places);
}

export function floorGrid({ x, y, z }: Volume): BufferGeometry {
  const places: Place[] = [];
  for (const at of ticks(...x, TICKS * 2)) places.push([at, y[0], z[0]], [at, y[1], z[0]]);
  for (const at of ticks(...y, TICKS * 2)) places.push([x[0], at, z[0]], [x[1], at, z[0]]);
  return lines(places);
}

interface Label {
  element: HTMLElement;
  axis: "x" | "y" | "z";
  value: number;
}

export class Labels {
  private labels: Label[] = [];
  private volume: Volume | null = null;

  constructor(private readonly holder: HTMLElement) {}

  setVolume(volume: Volume): void {
    this.volume = volume;
    this.labels = [];
    this.holder.replaceChildren();
    for (const axis of ["x", "y", "z"] as const) {
      const [low, high] = volume[axis];
      for (const value of ticks(low, high, TICKS)) {
        this.add(axis, value, axis === "z" && value === 0 ? "0 · focus" : String(+value.toPrecision(6)), "tick");
      }
      if (axis !== "z") this.add(axis, (low + high) / 2, `${axis} / µm`, "name");
    }
    const [low, high] = volume.z;
    this.add("z", (low + high) / 2, "z / µm", "name");
    if (high > 0) this.add("z", high, "away from objective ↑", "end");
    if (low < 0) this.add("z", low, "toward objective ↓", "end low");
  }

  /** Put the labels of x and y at the edge that is nearest to the viewer, and those of z at the leftmost edge. */
  place(camera: PerspectiveCamera, width: number, height: number): void {
    const volume = this.volume;
    if (!volume) return;
    const project = (place: Place): [number, number] => {
      const seen = inScene(place).project(camera);
      return [((seen.x + 1) / 2) * width, ((1 - seen.y) / 2) * height];
    };
    const { x, y, z } = volume;
    const middle: Place = [(x[0] + x[1]) / 2, (y[0] + y[1]) / 2, (z[0] + z[1]) / 2];
    const nearX = camera.position.x > middle[0] ? x[1] : x[0];
    const nearY = camera.position.z > middle[1] ? y[1] : y[0];
    const corners: Place[] = x.flatMap((a) => y.map((b): Place => [a, b, middle[2]]));
    const left = corners.reduce((best, corner) => (project(corner)[0] < project(best)[0] ? corner : best));
    const steep = Math.abs(camera.position.y - middle[2]) > 0.97 * camera.position.distanceTo(inScene(middle));
    const level = Math.abs(camera.position.y - middle[2]) < 0.1 * camera.position.distanceTo(inScene(middle));
    const centre = project(middle);
    for (const { element, axis, value } of this.labels) {
      const on: Place =
        axis === "x" ? [value, nearY, z[0]] : axis === "y" ? [nearX, value, z[0]] : [left[0], left[1], value];
      const [px, py] = project(on);
      // Outward from the middle of the box, more for the axis names than for the numbers.
      const away = element.classList.contains("name") ? 2.3 : 1;
      const edge: Place = axis === "x" ? [middle[0], nearY, z[0]] : [nearX, middle[1], z[0]];
      const [dx, dy] = axis === "z" ? [-1, 0] : outward(project(edge), centre);
      const wide = axis === "z" ? (away - 1) * 10 : 0;
      const turn = axis === "z" && element.classList.contains("name") ? " rotate(-90deg)" : "";
      const [atX, atY] = [px + dx * (OFFSET_PX * away + wide), py + dy * OFFSET_PX * away];
      element.style.transform = `translate(${atX}px, ${atY}px)${turn}`;
      // In the top view z has no extent. In the side view the edges along the view direction coincide.
      element.hidden = (axis === "z" && steep) || (axis === "y" && level);
    }
  }

  private add(axis: Label["axis"], value: number, text: string, kind: string): void {
    const element = document.createElement("span");
    element.className = `label ${axis} ${kind}`;
    element.textContent = text;
    this.holder.append(element);
    this.labels.push({ element, axis, value });
  }
}

function outward([x, y]: [number, number], [cx, cy]: [number, number]): [number, number] {
  const length = Math.hypot(x - cx, y - cy) || 1;
  return [(x - cx) / length, (y - cy) / length];
}
