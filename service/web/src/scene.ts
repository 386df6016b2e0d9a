// The tracks in 3D. The optical axis points up: the focal plane is at the bottom, and the side away from the objective
// is at the top. In the top view x runs right and y down, as in the camera's image.
import {
  BufferAttribute,
  BufferGeometry,
  Color,
  DynamicDrawUsage,
  LineBasicMaterial,
  LineSegments,
  PerspectiveCamera,
  Points,
  Scene,
  ShaderMaterial,
  Spherical,
  Vector3,
  WebGLRenderer,
} from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { boxEdges, floorGrid, Labels } from "./axes";
import { depthColour } from "./depth";
import { TRAIL, type Tracks } from "./tracks";
import { sameVolume, UNKNOWN, type Volume } from "./volume";

export type View = "free" | "top" | "side";

const GROUND = 0x0a0f16;
const POINT_SIZE = 0.03; // of the box's diagonal
const TURN = Math.PI / 36;
const STATE_COASTING = 1;
const STATE_NEAR_FOCUS = 2;

const POINT_VERTEX = /* glsl */ `
attribute vec3 tint;
attribute float state;
uniform float size;
uniform float height;
varying vec3 vTint;
varying float vState;
void main() {
  vTint = tint;
  vState = state;
  vec4 seen = modelViewMatrix * vec4(position, 1.0);
  gl_Position = projectionMatrix * seen;
  gl_PointSize = clamp(size * height * projectionMatrix[1][1] / gl_Position.w, 7.0, 64.0);
}`;

// A small shaded ball; a ring while coasting; a ball in a thin ring near focus.
const POINT_FRAGMENT = /* glsl */ `
varying vec3 vTint;
varying float vState;
void main() {
  vec2 place = gl_PointCoord * 2.0 - 1.0;
  float radius = length(place);
  float edge = fwidth(radius) * 1.2;
  float ball = 1.0 - smoothstep(0.62 - edge, 0.62, radius);
  float ring = smoothstep(0.46 - edge, 0.46, radius) * (1.0 - smoothstep(0.62 - edge, 0.62, radius));
  float halo = smoothstep(0.82 - edge, 0.82, radius) * (1.0 - smoothstep(0.94 - edge, 0.94, radius));
  float light = 0.72 + 0.5 * max(0.0, dot(normalize(vec3(place, 0.9)), normalize(vec3(-0.4, -0.6, 0.7))));
  bool coasting = mod(vState, 2.0) > 0.5;
  bool near = vState > 1.5;
  float cover = coasting ? ring : ball;
  if (near) cover = max(cover, halo * 0.8);
  if (cover < 0.02) discard;
  gl_FragColor = vec4(vTint * (coasting ? 1.0 : light), cover);
}`;

/** Lines or points whose columns are rewritten with every message. The buffers double in size when they are full. */
class Stream {
  readonly geometry = new BufferGeometry();
  private room = 0;

  constructor(private readonly widths: Record<string, number>) {}

  /** Arrays by name, each for at least `rows` rows. */
  arrays(rows: number): Record<string, Float32Array> {
    if (rows > this.room) {
      this.room = Math.max(256, 2 ** Math.ceil(Math.log2(rows)));
      // An attribute of a new size needs a new buffer on the graphics card.
      this.geometry.dispose();
      for (const [name, width] of Object.entries(this.widths)) {
        const attribute = new BufferAttribute(new Float32Array(this.room * width), width);
        this.geometry.setAttribute(name, attribute.setUsage(DynamicDrawUsage));
      }
    }
    return Object.fromEntries(
      Object.keys(this.widths).map((name) => [name, this.geometry.getAttribute(name).array as Float32Array]),
    );
  }

  show(rows: number): void {
    this.geometry.setDrawRange(0, rows);
    for (const name of Object.keys(this.widths)) this.geometry.getAttribute(name).needsUpdate = true;
  }
}

export class TrackScene {
  volume: Volume = UNKNOWN;
  private readonly renderer: WebGLRenderer;
  private readonly scene = new Scene();
  private readonly camera = new PerspectiveCamera(32, 1, 0.1, 1e5);
  private readonly controls: OrbitControls;
  private readonly labels: Labels;
  private readonly box: LineSegments;
  private readonly grid: LineSegments;
  private readonly points = new Stream({ position: 3, tint: 3, state: 1 });
  private readonly lines = new Stream({ position: 3, color: 4 });
  private readonly material: ShaderMaterial;
  private waiting = false;
  private tracks: Tracks | null = null;
  private whenPainted: (() => void) | null = null;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    labels: HTMLElement,
  ) {
    this.renderer = new WebGLRenderer({ canvas, antialias: true, powerPreference: "high-performance" });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.scene.background = new Color(GROUND);
    this.box = new LineSegments(new BufferGeometry(), new LineBasicMaterial({ color: 0x33475c }));
    this.grid = new LineSegments(new BufferGeometry(), new LineBasicMaterial({ color: 0x182432 }));
    this.material = new ShaderMaterial({
      vertexShader: POINT_VERTEX,
      fragmentShader: POINT_FRAGMENT,
      uniforms: { size: { value: 1 }, height: { value: 1 } },
      transparent: true,
      depthWrite: false,
    });
    const points = new Points(this.points.geometry, this.material);
    const lines = new LineSegments(
      this.lines.geometry,
      new LineBasicMaterial({ vertexColors: true, transparent: true, depthWrite: false }),
    );
    // No culling: bounds that are computed from partly filled buffers would be wrong.
    points.frustumCulled = lines.frustumCulled = false;
    points.renderOrder = 2;
    lines.renderOrder = 1;
    this.points.arrays(1);
    this.points.show(0);
    this.lines.arrays(1);
    this.lines.show(0);
    this.scene.add(this.grid, this.box, lines, points);
    this.labels = new Labels(labels);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.enableDamping = false;
    this.controls.addEventListener("change", () => this.invalidate());
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement!);
    this.setVolume(UNKNOWN, true);
    this.resize();
  }

  setVolume(volume: Volume, force = false): void {
    if (!force && sameVolume(volume, this.volume)) return;
    this.volume = volume;
    this.box.geometry.dispose();
    this.box.geometry = boxEdges(volume);
    this.grid.geometry.dispose();
    this.grid.geometry = floorGrid(volume);
    this.labels.setVolume(volume);
    this.material.uniforms["size"]!.value = this.diagonal() * POINT_SIZE * 0.5;
    this.view("free");
  }

  /**
   * Draw the newest tracks with the next repaint. `painted` is called when they are on the screen, unless newer tracks
   * have replaced them.
   */
  update(tracks: Tracks, painted: (() => void) | null = null): void {
    this.tracks = tracks;
    this.whenPainted = painted;
    this.invalidate();
  }

  view(view: View): void {
    const centre = this.centre();
    const far = (this.diagonal() / 2 / Math.sin((this.camera.fov * Math.PI) / 360)) * this.fit();
    const from = { free: [0.62, 0.5, 1], top: [0, 1, 1e-4], side: [0, 0.02, 1] }[view] as [number, number, number];
    this.camera.position.copy(centre).add(new Vector3(...from).normalize().multiplyScalar(far));
    this.controls.target.copy(centre);
    this.controls.update();
    this.invalidate();
  }

  private fillPoints(tracks: Tracks): void {
    const { position, tint, state } = this.points.arrays(Math.max(1, tracks.count)) as Record<string, Float32Array>;
    for (let row = 0; row < tracks.count; row++) {
      position!.set([tracks.x[row]!, tracks.z[row]!, tracks.y[row]!], row * 3);
      tint!.set(this.colour(tracks.z[row]!), row * 3);
      state![row] = (tracks.coasting(row) ? STATE_COASTING : 0) + (tracks.nearFocus(row) ? STATE_NEAR_FOCUS : 0);
    }
    this.points.show(tracks.count);
  }

  /** Trails that fade, and a faint line from each point down to the floor, which shows its x and y. */
  private fillLines(tracks: Tracks): void {
    const { position, color } = this.lines.arrays(Math.max(1, tracks.count) * (TRAIL + 1) * 2) as Record<
      string,
      Float32Array
    >;
    const floor = this.volume.z[0];
    let vertex = 0;
    const put = (x: number, y: number, z: number, rgb: readonly number[], alpha: number): void => {
      position!.set([x, z, y], vertex * 3);
      color!.set([rgb[0]!, rgb[1]!, rgb[2]!, alpha], vertex * 4);
      vertex++;
    };
    for (let row = 0; row < tracks.count; row++) {
      const trail = tracks.trails.get(tracks.id[row]!);
      const rgb = this.colour(tracks.z[row]!);
      put(tracks.x[row]!, tracks.y[row]!, tracks.z[row]!, rgb, 0.2);
      put(tracks.x[row]!, tracks.y[row]!, floor, rgb, 0.04);
      if (!trail) continue;
      for (let back = 0; back + 1 < trail.length; back++) {
        for (const step of [back, back + 1]) {
          const place = trail.at(step);
          const [x, y, z] = [trail.xyz[place]!, trail.xyz[place + 1]!, trail.xyz[place + 2]!];
          put(x, y, z, this.colour(z), (1 - step / TRAIL) ** 1.3);
        }
      }
    }
    this.lines.show(vertex);
  }

  private colour(z: number): [number, number, number] {
    const [low, high] = this.volume.z;
    return depthColour((z - low) / (high - low));
  }

  private key(event: KeyboardEvent): void {
    const offset = new Spherical().setFromVector3(this.camera.position.clone().sub(this.controls.target));
    const turn: Record<string, () => void> = {
      ArrowLeft: () => (offset.theta -= TURN),
      ArrowRight: () => (offset.theta += TURN),
      ArrowUp: () => (offset.phi -= TURN),
      ArrowDown: () => (offset.phi += TURN),
      "+": () => (offset.radius /= 1.1),
      "-": () => (offset.radius *= 1.1),
    };
    const views: Record<string, View> = { "0": "free", "1": "top", "2": "side" };
    if (views[event.key]) this.view(views[event.key]!);
    else if (turn[event.key]) {
      turn[event.key]!();
      offset.makeSafe();
      this.camera.position.setFromSpherical(offset).add(this.controls.target);
      this.controls.update();
      this.invalidate();
    } else return;
    event.preventDefault();
  }

  private centre(): Vector3 {
    const { x, y, z } = this.volume;
    return new Vector3((x[0] + x[1]) / 2, (z[0] + z[1]) / 2, (y[0] + y[1]) / 2);
  }

  private diagonal(): number {
    const { x, y, z } = this.volume;
    return Math.hypot(x[1] - x[0], y[1] - y[0], z[1] - z[0]);
  }

  /** Factor by which the camera is farther away in a narrow window, so that the whole box fits. */
  private fit(): number {
    return this.camera.aspect < 1 ? 1.15 / this.camera.aspect : 0.94;
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas.parentElement!;
    if (!width || !height) return;
    this.renderer.setSize(width, height, false);
    const was = this.fit();
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    const offset = this.camera.position.clone().sub(this.controls.target);
    this.camera.position.copy(this.controls.target).addScaledVector(offset, this.fit() / was);
    this.material.uniforms["height"]!.value = this.renderer.domElement.height;
    this.invalidate();
  }

  /** Draw once before the next repaint of the screen, however often this is called. */
  private invalidate(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.tracks) {
        this.fillPoints(this.tracks);
        this.fillLines(this.tracks);
        this.tracks = null;
      }
      this.camera.updateMatrixWorld();
      this.renderer.render(this.scene, this.camera);
      this.labels.place(this.camera, this.canvas.clientWidth, this.canvas.clientHeight);
      const painted = this.whenPainted;
      this.whenPainted = null;
      // This drawing is on the screen when the next animation frame begins.
      if (painted) requestAnimationFrame(painted);
    });
  }
}
