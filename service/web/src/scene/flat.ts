// The tracks without WebGL: seen along the optical axis and from the side, drawn in two dimensions.
import { colourAt, isDimmed, valueOf } from "../colour/colouring";
import { css, type Ground } from "../colour/depth";
import { isCoasting, isNearFocus, NOTHING, type Snapshot } from "../tracks/snapshot";
import { part } from "../tracks/trails";
import type { Drawing, SceneEvents, SceneOptions } from "./scene";
import { ticks, UNKNOWN, type Volume } from "./volume";

const INK: Record<Ground, { ground: string; line: string; grid: string; text: string; mark: string }> = {
  dark: { ground: "#0a0f16", line: "#6f8499", grid: "#3a4a5b", text: "#b6c5d4", mark: "#ffffff" },
  light: { ground: "#f7f9fb", line: "#66778a", grid: "#b7c2cd", text: "#3d4a57", mark: "#0b1520" },
};
const LEFT = 44;
const GAP = 40;
const PICK_PX = 16;

interface Frame {
  left: number;
  top: number;
  scale: number;
  across: "x";
  down: "y" | "z";
}

export class FlatScene {
  private readonly context: CanvasRenderingContext2D;
  private readonly watcher: ResizeObserver;
  private volume: Volume = UNKNOWN;
  private options: SceneOptions = { trail_s: 2, stretch: 0, perspective: false };
  private ground: Ground = "dark";
  private drawing: Drawing | null = null;
  private frames: Frame[] = [];
  private box: Volume | null = null;
  private waiting = false;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly events: Pick<SceneEvents, "picked" | "hovered">,
  ) {
    this.context = canvas.getContext("2d", { willReadFrequently: true })!;
    this.watcher = new ResizeObserver(() => this.invalidate());
    this.watcher.observe(canvas.parentElement!);
    canvas.addEventListener("click", (event) => events.picked(this.nearest(event.offsetX, event.offsetY), event.shiftKey || event.ctrlKey));
    canvas.addEventListener("pointermove", (event) => events.hovered(this.nearest(event.offsetX, event.offsetY)));
    canvas.addEventListener("pointerleave", () => this.events.hovered(null));
  }

  setVolume(volume: Volume, box: Volume | null = null): void {
    this.volume = volume;
    this.box = box;
    this.invalidate();
  }

  setOptions(options: SceneOptions, ground: Ground): void {
    this.options = options;
    this.ground = ground;
    this.invalidate();
  }

  update(drawing: Drawing, painted: (() => void) | null = null): void {
    this.drawing = drawing;
    this.invalidate();
    if (painted) requestAnimationFrame(() => requestAnimationFrame(painted));
  }

  end(): void {
    this.watcher.disconnect();
  }

  picture(): Promise<Blob | null> {
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
  }

  private invalidate(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  private draw(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas.parentElement!;
    const ratio = Math.min(devicePixelRatio, 2);
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const { context, volume } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = INK[this.ground].ground;
    context.fillRect(0, 0, width, height);
    const [wide, high, deep] = (["x", "y", "z"] as const).map((axis) => volume[axis][1] - volume[axis][0]) as [number, number, number];
    const scale = Math.max(0.01, Math.min((width - LEFT - 20) / wide, (height - 2 * GAP - 30) / (high + deep)));
    const left = LEFT + Math.max(0, (width - LEFT - 20 - wide * scale) / 2);
    this.frames = [
      { left, top: 24, scale, across: "x", down: "y" },
      { left, top: 24 + high * scale + GAP, scale, across: "x", down: "z" },
    ];
    for (const frame of this.frames) {
      this.drawFrame(frame);
      this.drawTracks(frame);
    }
  }

  private place({ left, top, scale, down }: Frame, x: number, other: number): [number, number] {
    const { x: across, [down]: range } = this.volume;
    return [left + (x - across[0]) * scale, down === "z" ? top + (range[1] - other) * scale : top + (other - range[0]) * scale];
  }

  private drawFrame(frame: Frame): void {
    const { context, volume } = this;
    const ink = INK[this.ground];
    const [x, down] = [volume.x, volume[frame.down]];
    context.lineWidth = 1;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = ink.text;
    context.textBaseline = "middle";
    for (const at of ticks(...x, 4)) {
      const [px, top] = this.place(frame, at, frame.down === "z" ? down[1] : down[0]);
      const [, bottom] = this.place(frame, at, frame.down === "z" ? down[0] : down[1]);
      this.line(ink.grid, px, top, px, bottom);
      context.textAlign = "center";
      context.fillText(String(+at.toPrecision(5)), px, bottom + 10);
    }
    for (const at of ticks(...down, 4)) {
      const [leftX, py] = this.place(frame, x[0], at);
      const [rightX] = this.place(frame, x[1], at);
      this.line(ink.grid, leftX, py, rightX, py);
      context.textAlign = "right";
      context.fillText(frame.down === "z" && at === 0 ? "focus" : String(+at.toPrecision(5)), leftX - 5, py);
    }
    const [ax, ay] = this.place(frame, x[0], down[0]);
    const [bx, by] = this.place(frame, x[1], down[1]);
    context.strokeStyle = ink.line;
    context.strokeRect(ax, Math.min(ay, by), bx - ax, Math.abs(by - ay));
    if (this.box) {
      const [[left, upper], [right, lower]] = [this.place(frame, this.box.x[0], this.box[frame.down][0]), this.place(frame, this.box.x[1], this.box[frame.down][1])];
      context.strokeStyle = ink.mark;
      context.strokeRect(left, Math.min(upper, lower), right - left, Math.abs(lower - upper));
    }
    context.textAlign = "left";
    context.fillText(frame.down === "y" ? "x right, y down / µm" : "x right, z up (away from objective) / µm", ax, Math.min(ay, by) - 10);
  }

  private line(colour: string, x0: number, y0: number, x1: number, y1: number): void {
    this.context.strokeStyle = colour;
    this.context.beginPath();
    this.context.moveTo(x0, y0);
    this.context.lineTo(x1, y1);
    this.context.stroke();
  }

  private drawTracks(frame: Frame): void {
    if (!this.drawing) return;
    const { tracks, trails, colouring, selection, current } = this.drawing;
    const { context } = this;
    for (let row = 0; row < tracks.count; row++) {
      const id = tracks.id[row]!;
      const selected = selection.ids.includes(id);
      if (selection.alone && !selected) continue;
      const value = valueOf(colouring, tracks, row);
      context.globalAlpha = isDimmed(colouring, value) && !selected ? 0.2 : 1;
      const colour = current ? css(colourAt(colouring, value)) : "#808890";
      context.strokeStyle = context.fillStyle = colour;
      const path = trails.path(id);
      if (path) {
        const [from, to] = part(path, tracks.t_s - this.options.trail_s, tracks.t_s);
        context.lineWidth = 2;
        context.beginPath();
        for (let at = from; at < to; at++) context.lineTo(...this.place(frame, path.x[at]!, frame.down === "y" ? path.y[at]! : path.z[at]!));
        context.stroke();
      }
      const [px, py] = this.place(frame, tracks.x[row]!, this.other(frame, tracks, row));
      context.beginPath();
      context.arc(px, py, 5, 0, 7);
      if (isCoasting(tracks, row)) context.stroke();
      else context.fill();
      if (isNearFocus(tracks, row)) this.ring(px, py, 8, colour);
      if (selected || selection.hovered === id) this.ring(px, py, 11, INK[this.ground].mark);
    }
    context.globalAlpha = 1;
  }

  private ring(x: number, y: number, radius: number, colour: string): void {
    this.context.strokeStyle = colour;
    this.context.lineWidth = 1.5;
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 7);
    this.context.stroke();
  }

  private other({ down }: Frame, tracks: Snapshot, row: number): number {
    return down === "y" ? tracks.y[row]! : tracks.z[row]!;
  }

  private nearest(x: number, y: number): number | null {
    const tracks = this.drawing?.tracks ?? NOTHING;
    let [best, near] = [null as number | null, PICK_PX];
    for (const frame of this.frames) {
      for (let row = 0; row < tracks.count; row++) {
        const [px, py] = this.place(frame, tracks.x[row]!, this.other(frame, tracks, row));
        if (Math.hypot(px - x, py - y) < near) [best, near] = [tracks.id[row]!, Math.hypot(px - x, py - y)];
      }
    }
    return best;
  }
}
