// The tracks as balls: a ring while coasting, a thin ring around those near focus, a light ring around selected ones, and
// a dot on the floor below each.
import { BufferGeometry, Points, ShaderMaterial } from "three";
import { Columns } from "./buffers";
import type { Uniforms } from "./segments";

export const COASTING = 1;
export const NEAR_FOCUS = 2;
export const SELECTED = 4;
export const DOT = 8;

const VERTEX = /* glsl */ `
attribute vec3 tint;
attribute float state;
attribute float wide;
uniform float ratio;
varying vec3 vTint;
varying float vState;
varying float vDeep;
void main() {
  vTint = tint;
  vState = state;
  gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
  vDeep = clamp(gl_Position.z / gl_Position.w * 0.5 + 0.5, 0.0, 1.0);
  gl_PointSize = wide * ratio * (1.2 - 0.4 * vDeep);
}`;

const FRAGMENT = /* glsl */ `
uniform vec3 ground;
uniform vec3 mark;
uniform float fog;
varying vec3 vTint;
varying float vState;
varying float vDeep;
bool has(float bit) { return mod(floor(vState / bit + 0.01), 2.0) > 0.5; }
void main() {
  vec2 place = gl_PointCoord * 2.0 - 1.0;
  float radius = length(place);
  float edge = fwidth(radius) * 1.2;
  float ball = 1.0 - smoothstep(0.56 - edge, 0.56, radius);
  float ring = smoothstep(0.38 - edge, 0.38, radius) * (1.0 - smoothstep(0.56 - edge, 0.56, radius));
  float halo = smoothstep(0.66 - edge, 0.66, radius) * (1.0 - smoothstep(0.76 - edge, 0.76, radius));
  float outer = smoothstep(0.86 - edge, 0.86, radius) * (1.0 - smoothstep(0.98 - edge, 0.98, radius));
  float light = 0.82 + 0.3 * max(0.0, dot(normalize(vec3(place, 0.9)), normalize(vec3(-0.4, -0.6, 0.7))));
  bool coasting = has(1.0);
  float cover = has(8.0) ? 1.0 - smoothstep(0.9 - edge, 0.9, radius) : coasting ? ring : ball;
  if (has(2.0)) cover = max(cover, halo);
  vec3 colour = vTint * (coasting || has(8.0) ? 1.0 : min(light, 1.08));
  colour = mix(colour, ground, fog * vDeep);
  if (has(4.0) && outer > cover) { cover = outer; colour = mark; }
  if (cover < 0.02) discard;
  gl_FragColor = vec4(colour, cover);
}`;

export class Balls {
  readonly points: Points;
  private readonly columns: Columns<"position" | "tint" | "state" | "wide">;
  private arrays: Record<"position" | "tint" | "state" | "wide", Float32Array>;
  private count = 0;

  constructor(uniforms: Uniforms, mark: { value: unknown }) {
    const geometry = new BufferGeometry();
    this.columns = new Columns(geometry, { position: 3, tint: 3, state: 1, wide: 1 }, false);
    this.arrays = this.columns.arrays(1);
    this.points = new Points(geometry, new ShaderMaterial({ vertexShader: VERTEX, fragmentShader: FRAGMENT, uniforms: { ...uniforms, mark }, transparent: true, depthWrite: false }));
    this.points.frustumCulled = false;
    this.points.renderOrder = 4;
  }

  begin(rows: number): void {
    this.arrays = this.columns.arrays(Math.max(1, rows));
    this.count = 0;
  }

  add(x: number, y: number, z: number, rgb: readonly number[], state: number, px: number): void {
    const { position, tint, state: states, wide } = this.arrays;
    const three = this.count * 3;
    position[three] = x; position[three + 1] = z; position[three + 2] = y;
    tint[three] = rgb[0]!; tint[three + 1] = rgb[1]!; tint[three + 2] = rgb[2]!;
    states[this.count] = state;
    wide[this.count++] = px;
  }

  show(): void {
    this.columns.show(this.count);
  }
}
