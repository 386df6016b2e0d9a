// The camera picture with a ring around every track, in a canvas that zooms and moves.
import { type Colouring, colourAt, isDimmed, valueOf } from "../colour/colouring";
import { css } from "../colour/depth";
import { markScale } from "../parts/size";
import { drawsInSoftware } from "../parts/software";
import type { Moment, Picture } from "../tracks/history";
import type { Selection } from "../tracks/selection";
import { isCoasting, isNearFocus } from "../tracks/snapshot";
import { type Contrast, table } from "./contrast";

const GROUND = "#05080c";
const RING_PX = 9;
const PICK_PX = 16;
const ZOOMS = [1, 40] as const;
const CLICK_PX = 5;
const LABELS_FROM = 2.5;

export interface ImageDrawing {
  moment: Moment;
  colouring: Colouring;
  selection: Selection;
  contrast: Contrast;
  /** Camera pixel at the sample, µm. */
  pixelUm: number;
  current: boolean;
  rings: boolean;
  /** The rings are of another frame, and drawn faint. */
  apart: boolean;
  /** A region that is marked on the picture. */
  box?: Region | null;
}

/** Left, top, width, height in frame pixels. */
export type Region = readonly [number, number, number, number];

export interface ImageEvents {
  picked(id: number | null, more: boolean): void;
  hovered(id: number | null): void;
  region(region: Region): void;
  moved(): void;
}

export class ImageCanvas {
  /** The user draws a region; else a drag moves the picture. */
  choosing = false;
  zoom = 1;
  private centre: [number, number] | null = null;
  private readonly context: CanvasRenderingContext2D;
  private readonly frame = document.createElement("canvas");
  private readonly frameContext = this.frame.getContext("2d", { willReadFrequently: drawsInSoftware() })!;
  private readonly watcher: ResizeObserver;
  private drawing: ImageDrawing | null = null;
  private painted: { picture: Picture; contrast: Contrast } | null = null;
  private drag: { from: [number, number]; at: [number, number]; moved: number } | null = null;
  private waiting = false;
  /** Size of the canvas on the screen; reading it from the document for each ring would be slow. */
  private box = { width: 1, height: 1 };
  private marks = 1;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly events: ImageEvents,
  ) {
    this.context = canvas.getContext("2d", { alpha: false, willReadFrequently: drawsInSoftware() })!;
    this.watcher = new ResizeObserver(() => {
      this.measure();
      this.invalidate();
    });
    this.watcher.observe(canvas.parentElement!);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
    }, { passive: false }); // prettier-ignore
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      const at: [number, number] = [event.offsetX, event.offsetY];
      this.drag = { from: at, at, moved: 0 };
    });
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", () => (this.drag = null));
    canvas.addEventListener("pointerleave", () => events.hovered(null));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  update(drawing: ImageDrawing): void {
    this.drawing = drawing;
    this.invalidate();
  }

  end(): void {
    this.watcher.disconnect();
  }

  fit(): void {
    this.zoom = 1;
    this.centre = null;
    this.invalidate();
  }

  /** Pixels of the screen per pixel of the frame. */
  get scale(): number {
    const picture = this.drawing?.moment.picture;
    if (!picture) return 1;
    const { width, height } = this.box;
    return this.zoom * Math.min(width / (picture.width * picture.scale), height / (picture.height * picture.scale));
  }

  /** Keep a place of the frame in the middle, pixels. */
  follow(x: number, y: number): void {
    if (this.zoom < LABELS_FROM) this.zoom = 4;
    this.centre = [x, y];
    this.invalidate();
  }

  invalidate(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  private measure(): void {
    this.box = { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
    this.marks = markScale();
  }

  private key(event: KeyboardEvent): void {
    const step = 40 / this.scale;
    const actions: Record<string, () => void> = {
      ArrowLeft: () => this.shift(-step, 0), ArrowRight: () => this.shift(step, 0), ArrowUp: () => this.shift(0, -step), ArrowDown: () => this.shift(0, step),
      "+": () => this.zoomAt(1.25, this.box.width / 2, this.box.height / 2),
      "=": () => this.zoomAt(1.25, this.box.width / 2, this.box.height / 2),
      "-": () => this.zoomAt(0.8, this.box.width / 2, this.box.height / 2),
      "0": () => this.fit(),
    }; // prettier-ignore
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  private size(): [number, number] {
    const picture = this.drawing?.moment.picture;
    return picture ? [picture.width * picture.scale, picture.height * picture.scale] : [1, 1];
  }

  private middle(): [number, number] {
    const [width, height] = this.size();
    const { scale } = this;
    const clamp = (value: number, whole: number, seen: number): number =>
      seen >= whole ? whole / 2 : Math.min(whole - seen / 2, Math.max(seen / 2, value));
    const [x, y] = this.centre ?? [width / 2, height / 2];
    return [clamp(x, width, this.box.width / scale), clamp(y, height, this.box.height / scale)];
  }

  private toScreen(x: number, y: number): [number, number] {
    const [cx, cy] = this.middle();
    const { scale } = this;
    return [this.box.width / 2 + (x - cx) * scale, this.box.height / 2 + (y - cy) * scale];
  }

  private toFrame(px: number, py: number): [number, number] {
    const [cx, cy] = this.middle();
    const { scale } = this;
    return [cx + (px - this.box.width / 2) / scale, cy + (py - this.box.height / 2) / scale];
  }

  private zoomAt(factor: number, px: number, py: number): void {
    const before = this.toFrame(px, py);
    this.zoom = Math.min(ZOOMS[1], Math.max(ZOOMS[0], this.zoom * factor));
    const now = this.toFrame(px, py);
    const [cx, cy] = this.middle();
    this.centre = [cx + before[0] - now[0], cy + before[1] - now[1]];
    this.events.moved();
    this.invalidate();
  }

  private shift(dx: number, dy: number): void {
    const [cx, cy] = this.middle();
    this.centre = [cx + dx, cy + dy];
    this.events.moved();
    this.invalidate();
  }

  private move(event: PointerEvent): void {
    const at: [number, number] = [event.offsetX, event.offsetY];
    if (!this.drag) {
      this.events.hovered(this.nearest(...at));
      return;
    }
    const [dx, dy] = [at[0] - this.drag.at[0], at[1] - this.drag.at[1]];
    this.drag.at = at;
    this.drag.moved += Math.abs(dx) + Math.abs(dy);
    if (!this.choosing && this.drag.moved > CLICK_PX) this.shift(-dx / this.scale, -dy / this.scale);
    this.invalidate();
  }

  private up(event: PointerEvent): void {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    if (drag.moved <= CLICK_PX) this.events.picked(this.nearest(...drag.at), event.shiftKey || event.ctrlKey || event.metaKey);
    else if (this.choosing) {
      const region = this.regionOf(drag.from, drag.at);
      // A line is no region.
      if (region[2] > 0 && region[3] > 0) this.events.region(region);
    }
    this.invalidate();
  }

  private regionOf(from: [number, number], to: [number, number]): Region {
    const [width, height] = this.size();
    const [a, b] = [this.toFrame(...from), this.toFrame(...to)];
    const clamp = (value: number, most: number): number => Math.round(Math.min(most, Math.max(0, value)));
    const [left, top] = [clamp(Math.min(a[0], b[0]), width), clamp(Math.min(a[1], b[1]), height)];
    return [left, top, clamp(Math.max(a[0], b[0]), width) - left, clamp(Math.max(a[1], b[1]), height) - top];
  }

  private nearest(px: number, py: number): number | null {
    if (!this.drawing) return null;
    const { moment: { tracks }, pixelUm } = this.drawing;
    let [best, near] = [null as number | null, PICK_PX];
    for (let row = 0; row < tracks.count; row++) {
      const [x, y] = this.toScreen(tracks.x[row]! / pixelUm + 0.5, tracks.y[row]! / pixelUm + 0.5);
      if (Math.hypot(x - px, y - py) < near) [best, near] = [tracks.id[row]!, Math.hypot(x - px, y - py)];
    }
    return best;
  }

  private paint(picture: Picture, contrast: Contrast): void {
    if (this.painted?.picture === picture && this.painted.contrast.black === contrast.black && this.painted.contrast.white === contrast.white) return;
    this.painted = { picture, contrast };
    const { width, height, grey } = picture;
    if (this.frame.width !== width || this.frame.height !== height) {
      this.frame.width = width;
      this.frame.height = height;
    }
    const shade = table(picture, contrast);
    const image = this.frameContext.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < grey.length; i++) {
      const value = shade[grey[i]!]!;
      pixels[i] = 0xff000000 | (value << 16) | (value << 8) | value;
    }
    this.frameContext.putImageData(image, 0, 0);
  }

  private draw(): void {
    this.measure();
    const { width, height } = this.box;
    const ratio = Math.min(devicePixelRatio, 2);
    if (!width || !height) return;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== wide || this.canvas.height !== high) {
      this.canvas.width = wide;
      this.canvas.height = high;
    }
    const { context } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = GROUND;
    context.fillRect(0, 0, width, height);
    const picture = this.drawing?.moment.picture;
    if (!this.drawing || !picture) return;
    this.paint(picture, this.drawing.contrast);
    const [frameWidth, frameHeight] = this.size();
    const [left, top] = this.toScreen(0, 0);
    context.imageSmoothingEnabled = this.scale * picture.scale < 3;
    context.filter = this.drawing.current ? "none" : "opacity(0.45)";
    context.drawImage(this.frame, left, top, frameWidth * this.scale, frameHeight * this.scale);
    context.filter = "none";
    if (this.drawing.rings) this.rings(this.drawing);
    if (this.drawing.box) this.outline(this.drawing.box, "");
    if (this.choosing && this.drag && this.drag.moved > CLICK_PX) {
      const region = this.regionOf(this.drag.from, this.drag.at);
      this.outline(region, `${region[2]} × ${region[3]}`);
    }
  }

  /** A region with all around it darkened, and a word at its corner. */
  private outline([x, y, wide, high]: Region, words: string): void {
    const { context } = this;
    const [frameWidth, frameHeight] = this.size();
    const [[left, top], [right, bottom], [l, t], [r, b]] = [this.toScreen(x, y), this.toScreen(x + wide, y + high), this.toScreen(0, 0), this.toScreen(frameWidth, frameHeight)];
    context.fillStyle = "rgb(0 0 0 / 0.45)";
    context.beginPath();
    context.rect(l, t, r - l, b - t);
    context.rect(left, top, right - left, bottom - top);
    context.fill("evenodd");
    for (const [colour, dash] of [["#000000", []], ["#ffdf8c", [6, 4]]] as const) {
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.setLineDash([...dash]);
      context.strokeRect(left, top, right - left, bottom - top);
    }
    context.setLineDash([]);
    if (!words) return;
    context.font = "600 12px system-ui, sans-serif";
    this.label(words, left + 6, top + 18);
  }

  private rings({ moment: { tracks }, colouring, selection, pixelUm, current, apart }: ImageDrawing): void {
    const { context } = this;
    const ring = RING_PX * this.marks;
    context.font = `600 ${12 * this.marks}px system-ui, sans-serif`;
    for (let row = 0; row < tracks.count; row++) {
      const id = tracks.id[row]!;
      const selected = selection.ids.includes(id);
      if (selection.alone && !selected) continue;
      // The centre of the top-left pixel is (0, 0) µm; its corner is at half a pixel.
      const [px, py] = this.toScreen(tracks.x[row]! / pixelUm + 0.5, tracks.y[row]! / pixelUm + 0.5);
      const value = valueOf(colouring, tracks, row);
      context.globalAlpha = apart || (isDimmed(colouring, value) && !selected) ? 0.35 : 1;
      context.strokeStyle = current ? css(colourAt(colouring, value)) : "#9aa3ab";
      context.lineWidth = (selected || selection.hovered === id ? 3 : 1.75) * this.marks;
      this.circle(px, py, ring, isCoasting(tracks, row));
      if (isNearFocus(tracks, row)) this.circle(px, py, ring + 4 * this.marks, false);
      if (selected || selection.hovered === id) {
        context.strokeStyle = "#ffffff";
        context.lineWidth = 1.5;
        this.circle(px, py, ring + 8 * this.marks, false);
      }
      if (selected || selection.hovered === id || this.zoom >= LABELS_FROM) this.label(String(id), px + ring + 10, py - ring);
    }
    context.globalAlpha = 1;
  }

  private circle(x: number, y: number, radius: number, dashed: boolean): void {
    const { context } = this;
    context.setLineDash(dashed ? [4, 4] : []);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
    context.setLineDash([]);
  }

  private label(text: string, x: number, y: number): void {
    const { context } = this;
    context.strokeStyle = "rgb(0 0 0 / 0.85)";
    context.lineWidth = 3;
    context.strokeText(text, x, y);
    context.fillStyle = "#ffffff";
    context.fillText(text, x, y);
  }
}
