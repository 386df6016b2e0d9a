// Drawing by the processor is recognized by the name of the renderer.
import { expect, test } from "vitest";
import { isSoftware } from "../src/parts/software";

test.each([
  ["ANGLE (Google, Vulkan 1.3.0 (SwiftShader Device (Subzero) (0x0000C0DE)), SwiftShader driver)", true],
  ["Mesa/X.org, llvmpipe (LLVM 15.0.7, 256 bits)", true],
  ["ANGLE (Microsoft, Microsoft Basic Render Driver Direct3D11)", true],
  ["ANGLE (Intel, Intel(R) UHD Graphics 620 Direct3D11)", false],
  ["Apple M2", false],
])("%s", (name, software) => expect(isSoftware(name)).toBe(software));
