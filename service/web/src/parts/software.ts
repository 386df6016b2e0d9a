// Whether this browser draws WebGL by the processor, as on remote desktops and without a graphics driver. There, work of
// the graphics card is expensive: smooth edges cost four times the pixels, and a canvas is faster without it.

const NAMES = /swiftshader|llvmpipe|softpipe|software|basic render/i;

let known: boolean | null = null;

export function isSoftware(renderer: string): boolean {
  return NAMES.test(renderer);
}

export function drawsInSoftware(): boolean {
  return (known ??= find());
}

function find(): boolean {
  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl) return true;
  const facts = gl.getExtension("WEBGL_debug_renderer_info");
  const name = String(gl.getParameter(facts ? facts.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return isSoftware(name);
}
