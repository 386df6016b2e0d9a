// Builds the page into dist. Addresses are relative, so the page also works behind a proxy that adds a prefix.
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

// The interactive API documentation at /docs is served from these copies, without the internet.
const SWAGGER_FILES = ["swagger-ui-bundle.js", "swagger-ui.css"];

const BUNDLED = ["@msgpack/msgpack", "preact", "swagger-ui-dist", "three", "uplot"];

function packageFile(path: string): string {
  return fileURLToPath(new URL(`node_modules/${path}`, import.meta.url));
}

function swagger(): Plugin {
  return {
    name: "swagger-ui-files",
    generateBundle() {
      for (const file of SWAGGER_FILES) {
        const source = readFileSync(packageFile(`swagger-ui-dist/${file}`));
        this.emitFile({ type: "asset", fileName: `swagger/${file}`, source });
      }
    },
  };
}

function version(name: string): string {
  return JSON.parse(readFileSync(packageFile(`${name}/package.json`), "utf-8")).version;
}

/** The licences of what is bundled travel with it. */
function licences(): Plugin {
  return {
    name: "third-party-licences",
    generateBundle() {
      const source = BUNDLED.flatMap((name) =>
        // The last one has the licences of what swagger-ui-dist itself bundles.
        ["LICENSE", "LICENSE.md", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"]
          .map((file) => packageFile(`${name}/${file}`))
          .filter(existsSync)
          .map((file) => `==== ${name} ${version(name)} ====\n\n${readFileSync(file, "utf-8").trim()}\n`),
      ).join("\n");
      this.emitFile({ type: "asset", fileName: "third-party-licences.txt", source });
    },
  };
}

/** What is large is stored compressed beside it; the service sends that where the browser takes it. */
function compressed(): Plugin {
  return {
    name: "compressed-files",
    enforce: "post",
    generateBundle(_, bundle) {
      for (const [fileName, file] of Object.entries(bundle)) {
        if (!/\.(js|css)$/.test(fileName)) continue;
        const source = gzipSync(file.type === "chunk" ? file.code : file.source, { level: 9 });
        this.emitFile({ type: "asset", fileName: `${fileName}.gz`, source });
      }
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [swagger(), licences(), compressed()],
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: true,
    // Everything is one chunk, most of it three.
    chunkSizeWarningLimit: 1200,
    assetsInlineLimit: 0,
  },
});
