// Makes src/api/schema.ts from the OpenAPI document of the service: npm run types [PYTHON].
// The generator is fetched for this command only, because it needs another TypeScript than the page.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const target = fileURLToPath(new URL("../src/api/schema.ts", import.meta.url));
const python = process.argv[2] ?? "python";

const text = execFileSync(python, ["-m", "service.api.description_file"], { cwd: root, encoding: "utf-8", maxBuffer: 2 ** 26 });
const folder = mkdtempSync(join(tmpdir(), "types-"));
const [from, to] = [join(folder, "openapi.json"), join(folder, "schema.ts")];
writeFileSync(from, text);
execFileSync("npx", ["--yes", "-p", "typescript@5.9.3", "-p", "openapi-typescript@7.13.0", "openapi-typescript", from, "-o", to], {
  stdio: "inherit",
  cwd: folder,
});
const hash = createHash("sha256").update(text).digest("hex");
writeFileSync(target, `// Made by \`npm run types\` from the API description with the SHA-256 ${hash}.\n${readFileSync(to, "utf-8")}`);
rmSync(folder, { recursive: true });
