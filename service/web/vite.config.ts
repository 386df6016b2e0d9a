// Builds the page into dist. Addresses are relative, so the page also works behind a proxy that adds a prefix.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

// The interactive API documentation at /docs is served from these copies, without the internet.
const SWAGGER_FILES = ["swagger-ui-bundle.js", "swagger-ui.css"];

function swagger(): Plugin {
  return {
    name: "swagger-ui-files",
    generateBundle() {
      for (const file of SWAGGER_FILES) {
        const source = fileURLToPath(new URL(`node_modules/swagger-ui-dist/${file}`, import.meta.url));
        this.emitFile({ type: "asset", fileName: `swagger/${file}`, source: readFileSync(source) });
      }
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [swagger()],
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: true,
    // Everything is one chunk, most of it three.
    chunkSizeWarningLimit: 1200,
    assetsInlineLimit: 0,
  },
});
