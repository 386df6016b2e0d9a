// Lines of a width in pixels, which WebGL does not have: each segment is a rectangle that faces the viewer.
import { BufferAttribute, type Color, InstancedBufferGeometry, Mesh, ShaderMaterial, Vector2 } from "three";
import { Columns } from "./buffers";

const VERTEX = /* glsl */ `
attribute vec3 start;
attribute vec3 end;
attribute vec4 startColour;
attribute vec4 endColour;
attribute float wide;
uniform vec2 size;
varying vec4 vColour;
varying float vDeep;
varying float vSide;
varying float vWide;
void main() {
  vec4 a = projectionMatrix * modelViewMatrix * vec4(start, 1.0);
  vec4 b = projectionMatrix * modelViewMatrix * vec4(end, 1.0);
  vec2 along = (b.xy / b.w - a.xy / a.w) * size;
  float span = length(along);
  vec2 across = span > 1e-5 ? vec2(-along.y, along.x) / span : vec2(0.0, 1.0);
  vec4 here = position.x < 0.5 ? a : b;
  // One pixel more than the line, in which its edge fades.
  here.xy += across * position.y * (wide + 1.0) / size * here.w;
  vSide = position.y * (wide + 1.0) * 0.5;
  vWide = wide;
  vColour = position.x < 0.5 ? startColour : endColour;
  vDeep = here.z / here.w;
  gl_Position = here;
}`;

const FRAGMENT = /* glsl */ `
uniform vec3 ground;
uniform float fog;
varying vec4 vColour;
varying float vDeep;
varying float vSide;
varying float vWide;
void main() {
  float cover = clamp(vWide * 0.5 + 0.5 - abs(vSide), 0.0, 1.0);
  gl_FragColor = vec4(mix(vColour.rgb, ground, fog * clamp(vDeep * 0.5 + 0.5, 0.0, 1.0)), vColour.a * cover);
}`;

export interface Uniforms {
  size: { value: Vector2 };
  ground: { value: Color };
  fog: { value: number };
  ratio: { value: number };
}

type Rgb = readonly number[];

export class Segments {
  readonly mesh: Mesh;
  private readonly columns: Columns<"start" | "end" | "startColour" | "endColour" | "wide">;
  private arrays: Record<"start" | "end" | "startColour" | "endColour" | "wide", Float32Array>;
  private count = 0;

  constructor(private readonly uniforms: Uniforms, order: number) {
    const geometry = new InstancedBufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(new Float32Array([0, -1, 0, 1, -1, 0, 1, 1, 0, 0, 1, 0]), 3));
    geometry.setIndex([0, 1, 2, 0, 2, 3]);
    this.columns = new Columns(geometry, { start: 3, end: 3, startColour: 4, endColour: 4, wide: 1 }, true);
    this.arrays = this.columns.arrays(1);
    this.mesh = new Mesh(geometry, new ShaderMaterial({ vertexShader: VERTEX, fragmentShader: FRAGMENT, uniforms: { ...uniforms }, transparent: true, depthWrite: false, side: 2 }));
    this.mesh.frustumCulled = false;
    this.mesh.renderOrder = order;
  }

  begin(rows: number): void {
    this.arrays = this.columns.arrays(Math.max(1, rows));
    this.count = 0;
  }

  /** Add a segment between two places (x, y, z in µm; depth points up in the scene). */
  add(x0: number, y0: number, z0: number, x1: number, y1: number, z1: number, from: Rgb, to: Rgb, fromAlpha: number, toAlpha: number, px: number): void {
    const { start, end, startColour, endColour, wide } = this.arrays;
    const [three, four] = [this.count * 3, this.count * 4];
    start[three] = x0; start[three + 1] = z0; start[three + 2] = y0;
    end[three] = x1; end[three + 1] = z1; end[three + 2] = y1;
    startColour[four] = from[0]!; startColour[four + 1] = from[1]!; startColour[four + 2] = from[2]!; startColour[four + 3] = fromAlpha;
    endColour[four] = to[0]!; endColour[four + 1] = to[1]!; endColour[four + 2] = to[2]!; endColour[four + 3] = toAlpha;
    wide[this.count++] = px * this.uniforms.ratio.value;
  }

  show(): void {
    this.columns.show(this.count);
  }
}
