// The libraries of calibrations and models: fit to the present optics, names, files in and out, deletion.
import type { ComponentChild } from "preact";
import { useState } from "preact/hooks";
import type { NamedFile } from "../api/client";
import { sentence } from "../api/problem";
import { Delete } from "../parts/delete";
import { NameField } from "../parts/name_field";
import { fileName, figure, moment, save } from "../parts/words";
import { api, notice } from "../state/app";
import { nameOf } from "../state/models";
import type { StepProps } from "./calibrate";
import { ImportModel, ImportSweep } from "./imports";
import { fitsPixel, score } from "./step";

function Fit({ made, pixelUm }: { made: number; pixelUm: number | null }): ComponentChild {
  const fits = fitsPixel(made, pixelUm);
  return fits === null ? <span class="hint">not known</span> : fits ? <span class="fit good">✓ fits</span> : <span class="fit bad">× other optics</span>;
}

export function Calibrations({ bench, pixelUm, go, reload }: StepProps): ComponentChild {
  return (
    <section class="card">
      <div class="row">
        <h2>Calibrations</h2>
        <span class="gap" />
        <ImportSweep go={go} />
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label="Calibrations">
        <table class="list">
          <thead><tr><th scope="col">name</th><th scope="col">made</th><th scope="col">pixel, µm</th><th scope="col">depths, µm</th><th scope="col">beads</th><th scope="col">optics</th><th scope="col"><span class="unseen">actions</span></th></tr></thead>
          <tbody>
            {bench.calibrations.map((item) => (
              <tr key={item.id}>
                <th scope="row"><NameField of="calibration" id={item.id} name={item.name} save={async (name) => (await api.changeCalibration(item.id, { name }), reload())} /></th>
                <td>{moment(item.created_at)}</td>
                <td>{figure(item.pixel_size_um, 4)}</td>
                <td>{figure(item.z_range_um[0])} to {figure(item.z_range_um[1])}</td>
                <td>{item.beads_used == null ? "–" : `${item.beads_used} of ${item.beads_found}`}</td>
                <td><Fit made={item.pixel_size_um} pixelUm={pixelUm} /></td>
                <td><div class="row"><button type="button" class="small" onClick={() => go("judge", item.id)}>Report</button><button type="button" class="small" onClick={() => go("train", item.id)}>Train</button><Export what={`of ${item.name || item.id}`} file={async () => ({ content: new Blob([await api.report(item.id)], { type: "text/html" }), name: `${fileName(item.name || item.id)}-report.html`, sha256: null })} words="Save report" /><Delete what={`calibration ${item.name || item.id}`} loses="Its report goes with it." remove={() => api.deleteCalibration(item.id)} done={reload} /></div></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {bench.calibrations.length ? null : <p class="hint">None yet. The shipped models need none, where they fit.</p>}
    </section>
  );
}

export function Models({ bench, pixelUm, reload }: StepProps): ComponentChild {
  const [busy, setBusy] = useState<string | null>(null);
  const use = async (id: string): Promise<void> => {
    setBusy(id);
    try {
      await api.activate(id);
      notice(`Model ${nameOf(bench.models, id)} is active.`, false);
      reload();
    } catch (error) {
      notice(sentence(error));
    } finally {
      setBusy(null);
    }
  };
  return (
    <section class="card" id="models">
      <div class="row">
        <h2>Models</h2>
        <span class="gap" />
        <ImportModel reload={reload} />
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label="Models">
        <table class="list">
          <thead><tr><th scope="col">name</th><th scope="col">made</th><th scope="col">network</th><th scope="col">pixel, µm</th><th scope="col">depths, µm</th><th scope="col">σ of depth, µm</th><th scope="col">Jaccard</th><th scope="col">optics</th><th scope="col"><span class="unseen">actions</span></th></tr></thead>
          <tbody>
            {bench.models.map((item) => (
              <tr key={item.id}>
                <th scope="row">{item.source === "library" ? <NameField of="model" id={item.id} name={item.name} save={async (name) => (await api.changeModel(item.id, { name }), reload())} /> : item.name || item.id}<br /><span class="aside">{item.source}{item.minutes == null ? "" : `, trained ${Math.round(item.minutes)} min`}</span></th>
                <td>{moment(item.created_at)}</td>
                <td>{item.architecture} {item.size ?? ""}</td>
                <td>{figure(item.pixel_size_um, 4)}</td>
                <td>{figure(item.z_range_um[0])} to {figure(item.z_range_um[1])}</td>
                <td>{figure(score(item, "rmse_axial_um"))}</td>
                <td>{figure(score(item, "jaccard"))}</td>
                <td><Fit made={item.pixel_size_um} pixelUm={pixelUm} /></td>
                <td><div class="row">{item.id === bench.active ? <span class="fit good">✓ active</span> : <button type="button" class="small" disabled={busy !== null} aria-busy={busy === item.id} onClick={() => void use(item.id)}>{busy === item.id ? <i class="spinner" /> : null}Use</button>}<Export what={`model ${item.name || item.id}`} file={() => api.modelFile(item.id)} words="Export" />{item.source === "library" && item.id !== bench.active ? <Delete what={`model ${item.name || item.id}`} loses="Runs that it analysed keep their tracks." remove={() => api.deleteModel(item.id)} done={reload} /> : null}</div></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Save a file of the service, and state its digest, which an import compares. */
function Export({ what, file, words }: { what: string; file: () => Promise<NamedFile>; words: string }): ComponentChild {
  const [busy, setBusy] = useState(false);
  const give = async (): Promise<void> => {
    setBusy(true);
    try {
      const { content, name, sha256 } = await file();
      save(content, name);
      if (sha256) notice(`${name} is saved. Its SHA-256 digest is ${sha256}; an import can compare it.`, false);
    } catch (error) {
      notice(sentence(error));
    } finally {
      setBusy(false);
    }
  };
  return <button type="button" class="small" aria-label={`${words} ${what}`} disabled={busy} aria-busy={busy} onClick={() => void give()}>{busy ? <i class="spinner" /> : null}{words}</button>;
}
