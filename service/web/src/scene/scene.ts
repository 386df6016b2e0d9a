// The tracks in 3D. The optical axis points up: the focal plane is at the bottom, and the side away from the objective is
// at the top. In the view xy, x runs right and y down, as in the camera's image.
import { Color, Group, OrthographicCamera, PerspectiveCamera, Scene, Vector2, Vector3, WebGLRenderer } from "three";
import { type Colouring, colourAt, isDimmed, valueOf } from "../colour/colouring";
import type { Ground } from "../colour/depth";
import { markScale } from "../parts/size";
import { drawsInSoftware } from "../parts/software";
import type { Selection } from "../tracks/selection";
import { isCoasting, isNearFocus, NOTHING, type Snapshot } from "../tracks/snapshot";
import { part, type Trails } from "../tracks/trails";
import { Labels, type Projection } from "./axes";
import { Balls, COASTING, DOT, NEAR_FOCUS, SELECTED } from "./balls";
import { Orbit, type View } from "./orbit";
import { Segments, type Uniforms } from "./segments";
import { sameVolume, ticks, UNKNOWN, type Volume } from "./volume";

const GROUNDS: Record<Ground, { ground: number; box: number; grid: number; hatch: number; mark: number }> = {
  dark: { ground: 0x0a0f16, box: 0x6f8499, grid: 0x3a4a5b, hatch: 0x4a5c6e, mark: 0xffffff },
  light: { ground: 0xf7f9fb, box: 0x66778a, grid: 0xb7c2cd, hatch: 0x9fabb8, mark: 0x0b1520 },
};
const FOV = 32;
const FOG = 0.35;
const MOST_SEGMENTS = 30_000;
/** Where the processor draws, trails are coarser. */
const MOST_SEGMENTS_IN_SOFTWARE = 5000;
const PICK_PX = 16;
const MARGIN_PX = 48;
const SIDE_PX = 84;
/** In a narrow pane the labels may lie closer to its edge. */
const SIDE_PART = 0.205;
/** The legend on the right is wider than the labels on the left. */
const ASIDE_PX = 13;
const HATCH_UM = 3;
const DIM = 0.16;

export interface SceneOptions {
  trail_s: number;
  /** Factor of the depth axis, or 0: as much as makes the box at least a third as high as wide. */
  stretch: number;
  perspective: boolean;
}

export interface Drawing {
  tracks: Snapshot;
  trails: Trails;
  colouring: Colouring;
  selection: Selection;
  current: boolean;
}

export interface SceneEvents {
  picked(id: number | null, more: boolean): void;
  hovered(id: number | null): void;
  drawn(facts: { umPerPx: number | null; view: View | null; stretch: number }): void;
}

/** The factor of the depth axis that is used. */
export function stretchOf(wanted: number, { x, y, z }: Volume): number {
  if (wanted > 0) return wanted;
  const wide = Math.max(x[1] - x[0], y[1] - y[0]);
  const needed = wide / 3 / Math.max(z[1] - z[0], 1e-6);
  return needed <= 1 ? 1 : [2, 5, 10, 20, 50, 100].find((factor) => factor >= needed) ?? 100;
}

export class TrackScene {
  readonly orbit: Orbit;
  private readonly software = drawsInSoftware();
  private readonly mostSegments = this.software ? MOST_SEGMENTS_IN_SOFTWARE : MOST_SEGMENTS;
  private readonly renderer: WebGLRenderer;
  private readonly scene = new Scene();
  private readonly group = new Group();
  private readonly flat = new OrthographicCamera();
  private readonly deep = new PerspectiveCamera(FOV);
  private readonly labels: Labels;
  private readonly uniforms: Uniforms = { size: { value: new Vector2(1, 1) }, ground: { value: new Color() }, fog: { value: FOG }, ratio: { value: 1 } };
  private readonly mark = { value: new Color() };
  private readonly frame = new Segments(this.uniforms, 0);
  private readonly lines = new Segments(this.uniforms, 2);
  private readonly balls = new Balls(this.uniforms, this.mark);
  private readonly watcher: ResizeObserver;
  private volume: Volume = UNKNOWN;
  private box: Volume | null = null;
  private options: SceneOptions = { trail_s: 2, stretch: 0, perspective: false };
  private stretch = 1;
  private marks = 1;
  private ground: Ground = "dark";
  private drawing: Drawing | null = null;
  private framed = false;
  private filled = false;
  private waiting = false;
  private ended = false;
  private whenPainted: (() => void) | null = null;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    holder: HTMLElement,
    private readonly events: SceneEvents,
  ) {
    this.renderer = new WebGLRenderer({ canvas, antialias: !this.software, powerPreference: "high-performance" });
    this.group.add(this.frame.mesh, this.lines.mesh, this.balls.points);
    this.scene.add(this.group);
    this.labels = new Labels(holder);
    this.orbit = new Orbit(canvas, {
      changed: () => this.invalidate(),
      clicked: (x, y, more) => events.picked(this.nearest(x, y), more),
      hovered: (x, y) => events.hovered(this.nearest(x, y)),
      left: () => events.hovered(null),
      unit: () => this.unit(),
    });
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(canvas.parentElement!);
    this.labels.setVolume(this.volume);
    this.resize();
  }

  /** The imaged volume, and a box that is marked in it. */
  setVolume(volume: Volume, box: Volume | null = null): void {
    if (sameVolume(volume, this.volume) && (box === this.box || (box && this.box && sameVolume(box, this.box)))) return;
    this.volume = volume;
    this.box = box;
    this.reframe();
  }

  setOptions(options: SceneOptions, ground: Ground): void {
    this.options = options;
    this.ground = ground;
    this.reframe();
  }

  /** Draw with the next repaint. `painted` is called when it is on the screen, unless something newer has replaced it. */
  update(drawing: Drawing, painted: (() => void) | null = null): void {
    this.drawing = drawing;
    this.filled = false;
    this.whenPainted = painted;
    this.invalidate();
  }

  end(): void {
    this.ended = true;
    this.watcher.disconnect();
    this.renderer.dispose();
    this.renderer.forceContextLoss();
  }

  /** The picture as a PNG file. */
  picture(): Promise<Blob | null> {
    this.render();
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
  }

  private reframe(): void {
    this.stretch = stretchOf(this.options.stretch, this.volume);
    this.group.scale.y = this.stretch;
    this.labels.setVolume(this.volume, this.stretch);
    this.framed = this.filled = false;
    this.invalidate();
  }

  private project: Projection = (x, y, z) => {
    const seen = new Vector3(x, z * this.stretch, y).project(this.options.perspective ? this.deep : this.flat);
    const { clientWidth, clientHeight } = this.canvas;
    return [((seen.x + 1) / 2) * clientWidth, ((1 - seen.y) / 2) * clientHeight];
  };

  private nearest(x: number, y: number): number | null {
    const tracks = this.drawing?.tracks ?? NOTHING;
    let [best, near] = [null as number | null, PICK_PX];
    for (let row = 0; row < tracks.count; row++) {
      const [px, py] = this.project(tracks.x[row]!, tracks.y[row]!, tracks.z[row]!);
      const apart = Math.hypot(px - x, py - y);
      if (apart < near) [best, near] = [tracks.id[row]!, apart];
    }
    return best;
  }

  private fillFrame(): void {
    const { x, y, z } = this.volume;
    const colours = GROUNDS[this.ground];
    const rgb = (hex: number): number[] => new Color(hex).convertLinearToSRGB().toArray();
    const [box, grid, hatch] = [rgb(colours.box), rgb(colours.grid), rgb(colours.hatch)];
    this.uniforms.ground.value.set(...(rgb(colours.ground) as [number, number, number]));
    this.mark.value.set(...(rgb(colours.mark) as [number, number, number]));
    this.renderer.setClearColor(new Color(...(rgb(colours.ground) as [number, number, number])).convertSRGBToLinear());
    const { frame } = this;
    frame.begin(600);
    const line = (a: readonly number[], b: readonly number[], colour: number[], px: number): void =>
      frame.add(a[0]!, a[1]!, a[2]!, b[0]!, b[1]!, b[2]!, colour, colour, 1, 1, px);
    for (const at of ticks(...x, 8)) line([at, y[0], z[0]], [at, y[1], z[0]], grid, 1);
    for (const at of ticks(...y, 8)) line([x[0], at, z[0]], [x[1], at, z[0]], grid, 1);
    if (z[0] <= 0 && z[1] > HATCH_UM) this.hatch(line, hatch);
    this.edges(line, this.volume, box, 1.25);
    if (this.box) this.edges(line, this.box, rgb(colours.mark), 1.5);
    frame.show();
    this.framed = true;
  }

  private edges(line: (a: readonly number[], b: readonly number[], colour: number[], px: number) => void, { x, y, z }: Volume, colour: number[], px: number): void {
    for (const i of [0, 1] as const) {
      for (const j of [0, 1] as const) {
        line([x[0], y[i], z[j]], [x[1], y[i], z[j]], colour, px);
        line([x[i], y[0], z[j]], [x[i], y[1], z[j]], colour, px);
        line([x[i], y[j], z[0]], [x[i], y[j], z[1]], colour, px);
      }
    }
  }

  /** The band near focus, where depth is least certain. */
  private hatch(line: (a: readonly number[], b: readonly number[], colour: number[], px: number) => void, colour: number[]): void {
    const { x, y } = this.volume;
    const steps = 24;
    for (const j of [0, 1] as const) {
      for (let i = 0; i < steps; i++) {
        const [a, b] = [i / steps, (i + 0.6) / steps];
        const alongX = (part: number): number => x[0] + (x[1] - x[0]) * part;
        const alongY = (part: number): number => y[0] + (y[1] - y[0]) * part;
        line([alongX(a), y[j], 0], [alongX(b), y[j], HATCH_UM], colour, 1);
        line([x[j], alongY(a), 0], [x[j], alongY(b), HATCH_UM], colour, 1);
      }
    }
  }

  private fillTracks({ tracks, trails, colouring, selection, current }: Drawing): void {
    const { balls, lines } = this;
    const floor = this.volume.z[0];
    const perTrack = Math.max(4, Math.floor(this.mostSegments / Math.max(1, tracks.count)));
    balls.begin(tracks.count * 2);
    lines.begin(tracks.count * 2 + Math.min(tracks.count * Math.min(perTrack, this.options.trail_s * 31 + 1), this.mostSegments + 4 * tracks.count) + selection.ids.length * 3);
    const grey = this.ground === "dark" ? [0.45, 0.5, 0.55] : [0.5, 0.54, 0.58];
    for (let row = 0; row < tracks.count; row++) {
      const id = tracks.id[row]!;
      const selected = selection.ids.includes(id);
      if (selection.alone && !selected) continue;
      const value = valueOf(colouring, tracks, row);
      const dim = isDimmed(colouring, value) && !selected ? DIM : 1;
      const rgb = current ? colourAt(colouring, value) : grey;
      const shade = dim === 1 ? rgb : this.mixed(rgb, dim);
      const [x, y, z] = [tracks.x[row]!, tracks.y[row]!, tracks.z[row]!];
      const state = (isCoasting(tracks, row) ? COASTING : 0) + (isNearFocus(tracks, row) ? NEAR_FOCUS : 0) + (selected || selection.hovered === id ? SELECTED : 0);
      lines.add(x, y, z, x, y, floor, shade, shade, 0.62 * dim, 0.5 * dim, 1);
      balls.add(x, y, floor, shade, DOT, 4 * this.marks);
      balls.add(x, y, z, shade, state, (selection.hovered === id ? 27 : 23) * this.marks);
      if (selected) this.sigmaBars(tracks, row);
      this.trail(trails, id, tracks, colouring, current ? null : grey, dim, (selected ? 3 : 2) * this.marks, perTrack);
    }
    balls.show();
    lines.show();
    this.filled = true;
  }

  /** One standard deviation each way, along the three axes. */
  private sigmaBars(tracks: Snapshot, row: number): void {
    const white = this.mark.value.toArray();
    const [x, y, z] = [tracks.x[row]!, tracks.y[row]!, tracks.z[row]!];
    const [sx, sy, sz] = [tracks.sx[row]!, tracks.sy[row]!, tracks.sz[row]!];
    this.lines.add(x - sx, y, z, x + sx, y, z, white, white, 1, 1, 2);
    this.lines.add(x, y - sy, z, x, y + sy, z, white, white, 1, 1, 2);
    this.lines.add(x, y, z - sz, x, y, z + sz, white, white, 1, 1, 2);
  }

  private trail(trails: Trails, id: number, tracks: Snapshot, colouring: Colouring, grey: number[] | null, dim: number, px: number, most: number): void {
    const path = trails.path(id);
    if (!path) return;
    const { trail_s } = this.options;
    const [from, to] = part(path, tracks.t_s - trail_s, tracks.t_s);
    const step = Math.max(1, Math.ceil((to - from) / Math.min(most, trail_s * 30)));
    const fixed = grey ?? (colouring.by === "depth" ? null : colourAt(colouring, valueOf(colouring, tracks, rowIn(tracks, id))));
    for (let later = to - 1; later - step >= from; later -= step) {
      const earlier = later - step;
      const [a, b] = [1 - (tracks.t_s - path.t[earlier]!) / trail_s, 1 - (tracks.t_s - path.t[later]!) / trail_s];
      this.lines.add(
        path.x[earlier]!, path.y[earlier]!, path.z[earlier]!, path.x[later]!, path.y[later]!, path.z[later]!,
        fixed ?? colourAt(colouring, path.z[earlier]!), fixed ?? colourAt(colouring, path.z[later]!), dim * Math.max(0.05, a), dim * Math.max(0.05, b), px,
      ); // prettier-ignore
    }
  }

  private mixed(rgb: readonly number[], dim: number): number[] {
    const ground = this.uniforms.ground.value.toArray();
    return rgb.map((value, i) => value * dim + ground[i]! * (1 - dim));
  }

  /** Half of the height of the picture, scene units at zoom 1: the box fits, with room for its labels. */
  private reach(): number {
    const { x, y, z } = this.volume;
    const [right, up] = this.orbit.axes;
    const half = [(x[1] - x[0]) / 2, ((z[1] - z[0]) / 2) * this.stretch, (y[1] - y[0]) / 2];
    const extent = (axis: Vector3): number => half.reduce((sum, value, i) => sum + Math.abs(axis.getComponent(i)) * value, 0);
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [wide, high] = [Math.max(40, width - 2 * Math.min(SIDE_PX, width * SIDE_PART)), Math.max(40, height - 2 * MARGIN_PX)];
    return Math.max((extent(up) * height) / high, ((extent(right) * width) / wide) * (height / width));
  }

  private unit(): number {
    return (2 * this.reach()) / this.orbit.zoom / Math.max(1, this.canvas.clientHeight);
  }

  private placeCamera(): void {
    const { x, y, z } = this.volume;
    const [right, up] = this.orbit.axes;
    const reach = this.reach() / this.orbit.zoom;
    const aspect = this.canvas.clientWidth / Math.max(1, this.canvas.clientHeight);
    const size = Math.hypot(x[1] - x[0], y[1] - y[0], (z[1] - z[0]) * this.stretch);
    const centre = new Vector3((x[0] + x[1]) / 2, ((z[0] + z[1]) / 2) * this.stretch, (y[0] + y[1]) / 2);
    centre.addScaledVector(right, this.orbit.shift[0] + ASIDE_PX * this.unit()).addScaledVector(up, this.orbit.shift[1]);
    const camera = this.options.perspective ? this.deep : this.flat;
    const distance = this.options.perspective ? reach / Math.tan((FOV * Math.PI) / 360) + size / 2 : size;
    camera.up.copy(up);
    camera.position.copy(centre).addScaledVector(this.orbit.direction, distance);
    camera.near = Math.max(0.01 * distance, distance - size * 2);
    camera.far = distance + size * 2;
    if (camera === this.flat) {
      this.flat.near = distance - size * 2;
      [this.flat.left, this.flat.right, this.flat.top, this.flat.bottom] = [-reach * aspect, reach * aspect, reach, -reach];
    } else this.deep.aspect = aspect;
    camera.lookAt(centre);
    camera.updateProjectionMatrix();
    camera.updateMatrixWorld();
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas.parentElement!;
    if (!width || !height) return;
    const ratio = this.software ? 1 : Math.min(devicePixelRatio, 2);
    this.marks = markScale();
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height, false);
    this.uniforms.size.value.set(width * ratio, height * ratio);
    if (this.uniforms.ratio.value !== ratio) this.framed = this.filled = false;
    this.uniforms.ratio.value = ratio;
    this.invalidate();
  }

  /** Draw once before the next repaint of the screen, however often this is called. */
  private invalidate(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.ended) return;
      this.render();
      const painted = this.whenPainted;
      this.whenPainted = null;
      // This drawing is on the screen when the next animation frame begins.
      if (painted) requestAnimationFrame(painted);
    });
  }

  private render(): void {
    if (!this.framed) this.fillFrame();
    if (!this.filled && this.drawing) this.fillTracks(this.drawing);
    this.placeCamera();
    this.renderer.render(this.scene, this.options.perspective ? this.deep : this.flat);
    this.labels.place(this.project, this.orbit.direction);
    this.events.drawn({ umPerPx: this.options.perspective ? null : this.unit(), view: this.orbit.view, stretch: this.stretch });
  }
}

function rowIn(tracks: Snapshot, id: number): number {
  for (let row = 0; row < tracks.count; row++) if (tracks.id[row] === id) return row;
  return 0;
}
