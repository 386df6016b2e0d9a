// Where the 3D view is looked at from: two angles, a zoom and a centre; set by pointer, wheel, keys and view buttons.
import { MathUtils, Vector3 } from "three";

export type View = "3D" | "xy" | "xz" | "yz";
export const VIEWS: readonly View[] = ["3D", "xy", "xz", "yz"];

/** Angle around the optical axis and from it, rad. */
const ANGLES: Record<View, readonly [number, number]> = {
  "3D": [0.55, 1.08],
  xy: [0, 0],
  xz: [0, Math.PI / 2],
  yz: [-Math.PI / 2, Math.PI / 2],
};
const TURN_MS = 300;
const STEP = Math.PI / 36;
const ZOOMS = [0.3, 50] as const;
const DRAG_RAD = 0.008;
const CLICK_PX = 5;

export interface OrbitEvents {
  changed(): void;
  clicked(x: number, y: number, more: boolean): void;
  hovered(x: number, y: number): void;
  left(): void;
  /** Scene units that a pixel is wide. */
  unit(): number;
}

export class Orbit {
  theta = ANGLES["3D"][0];
  phi = ANGLES["3D"][1];
  zoom = 1;
  /** Distance of the centre of the picture from the centre of the box, along right and up of the screen, scene units. */
  shift: [number, number] = [0, 0];
  view: View | null = "3D";
  private readonly pointers = new Map<number, [number, number]>();
  private moved = 0;
  private pinch = 0;
  private turning = 0;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly events: OrbitEvents,
  ) {
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => events.left());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * 0.0015));
    }, { passive: false }); // prettier-ignore
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /** Unit vector from the centre to the viewer; scene axes: x, depth, y. */
  get direction(): Vector3 {
    const level = Math.sin(this.phi);
    return new Vector3(level * Math.sin(this.theta), Math.cos(this.phi), level * Math.cos(this.theta));
  }

  /** Right and up of the screen. */
  get axes(): [Vector3, Vector3] {
    const right = new Vector3(Math.cos(this.theta), 0, -Math.sin(this.theta));
    return [right, new Vector3().crossVectors(this.direction, right)];
  }

  turnTo(view: View): void {
    this.view = view;
    this.shift = [0, 0];
    this.zoom = 1;
    const [theta, phi] = ANGLES[view];
    const [fromTheta, fromPhi] = [this.theta, this.phi];
    const turn = Math.atan2(Math.sin(theta - fromTheta), Math.cos(theta - fromTheta));
    const begin = performance.now();
    const number = ++this.turning;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = (): void => {
      if (number !== this.turning) return;
      const part = still ? 1 : Math.min(1, (performance.now() - begin) / TURN_MS);
      const eased = MathUtils.smoothstep(part, 0, 1);
      this.theta = part === 1 ? theta : fromTheta + turn * eased;
      this.phi = fromPhi + (phi - fromPhi) * eased;
      this.events.changed();
      if (part < 1) requestAnimationFrame(step);
    };
    step();
  }

  fit(): void {
    this.zoom = 1;
    this.shift = [0, 0];
    this.events.changed();
  }

  zoomBy(factor: number): void {
    this.zoom = MathUtils.clamp(this.zoom * factor, ...ZOOMS);
    this.events.changed();
  }

  private turnBy(theta: number, phi: number): void {
    this.turning++;
    this.view = null;
    this.theta += theta;
    // Never below the floor, which would hide it, and never over the pole.
    this.phi = MathUtils.clamp(this.phi + phi, 0, Math.PI / 2);
    this.events.changed();
  }

  private shiftBy(dx: number, dy: number): void {
    const unit = this.events.unit();
    this.shift = [this.shift[0] - dx * unit, this.shift[1] + dy * unit];
    this.events.changed();
  }

  private down(event: PointerEvent): void {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.pointers.size === 1) this.moved = 0;
    this.pinch = 0;
  }

  private move(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      const { left, top } = this.canvas.getBoundingClientRect();
      this.events.hovered(event.clientX - left, event.clientY - top);
      return;
    }
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.moved += Math.abs(dx) + Math.abs(dy);
    if (this.pointers.size === 2) {
      const [a, b] = [...this.pointers.values()] as [[number, number], [number, number]];
      const apart = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (this.pinch) this.zoomBy(apart / this.pinch);
      this.pinch = apart;
      this.shiftBy(dx / 2, dy / 2);
    } else if (this.moved > CLICK_PX) {
      if (event.shiftKey || (event.buttons & 2) !== 0 || (event.buttons & 4) !== 0) this.shiftBy(dx, dy);
      else this.turnBy(-dx * DRAG_RAD, -dy * DRAG_RAD);
    }
  }

  private up(event: PointerEvent): void {
    const single = this.pointers.size === 1;
    this.pointers.delete(event.pointerId);
    if (!single || this.moved > CLICK_PX) return;
    const { left, top } = this.canvas.getBoundingClientRect();
    this.events.clicked(event.clientX - left, event.clientY - top, event.shiftKey || event.ctrlKey || event.metaKey);
  }

  private key(event: KeyboardEvent): void {
    const actions: Record<string, () => void> = {
      ArrowLeft: () => this.turnBy(-STEP, 0),
      ArrowRight: () => this.turnBy(STEP, 0),
      ArrowUp: () => this.turnBy(0, -STEP),
      ArrowDown: () => this.turnBy(0, STEP),
      "+": () => this.zoomBy(1.15),
      "=": () => this.zoomBy(1.15),
      "-": () => this.zoomBy(1 / 1.15),
    };
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }
}
