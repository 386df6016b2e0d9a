// Files that come in: a model of another service, and the sweep of a calibration.
import type { ComponentChild, ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { sentence } from "../api/problem";
import { addJob, api, notice } from "../state/app";
import type { StepProps } from "./calibrate";
import { isDigest, statementOf } from "./sweep_files";

interface SheetProps {
  /** Of the button that opens the sheet. */
  words: string;
  title: string;
  children: ComponentChildren;
  /** Sends the form; the sheet closes when it has succeeded. */
  send(form: FormData): Promise<void>;
}

function FileSheet({ words, title, children, send }: SheetProps): ComponentChild {
  const dialog = useRef<HTMLDialogElement>(null);
  const form = useRef<HTMLFormElement>(null);
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState("");
  useLayoutEffect(() => {
    if (open) dialog.current!.showModal();
  }, [open]);
  const submit = async (): Promise<void> => {
    setBusy(true);
    setFault("");
    try {
      await send(new FormData(form.current!));
      dialog.current!.close();
    } catch (error) {
      setFault(error instanceof RangeError ? error.message : sentence(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button type="button" class="small" onClick={() => setOpen(true)}>{words}</button>
      {open ? <dialog ref={dialog} aria-label={title} onClose={() => { setOpen(false); setFault(""); }}>
        <form ref={form} class="file-form" onSubmit={(event) => { event.preventDefault(); void submit(); }}>
          <h2>{title}</h2>
          {children}
          {fault ? <p class="wrong" role="alert">{fault}</p> : null}
          <div class="row end">
            <button type="button" onClick={() => dialog.current!.close()}>Close</button>
            <button type="submit" class="primary" disabled={busy} aria-busy={busy}>{busy ? <i class="spinner" /> : null}Import</button>
          </div>
        </form>
      </dialog> : null}
    </>
  );
}

export function ImportModel({ reload }: { reload: () => void }): ComponentChild {
  const send = async (form: FormData): Promise<void> => {
    const digest = String(form.get("sha256") ?? "").trim().toLowerCase();
    if (digest && !isDigest(digest)) throw new RangeError("The digest is not 64 hexadecimal digits. Copy all of it, or leave the field empty.");
    const { id } = await api.importModel(form.get("file") as File, digest);
    notice(`Model ${id} is imported.`, false);
    reload();
  };
  return (
    <FileSheet words="Import a model" title="Import a model" send={send}>
      <p>A ZIP file that <b>Export</b> or <code>bathyscope model export</code> made. Every file in it is checked.</p>
      <label>File<input type="file" name="file" accept=".zip,application/zip" required /></label>
      <label>SHA-256 digest that the export stated, to notice a damaged file (may be left empty)<input name="sha256" type="text" autocomplete="off" spellcheck={false} maxLength={80} /></label>
    </FileSheet>
  );
}

export function ImportSweep({ go }: { go: StepProps["go"] }): ComponentChild {
  const send = async (form: FormData): Promise<void> => {
    addJob(await api.sweepOfFiles(form.getAll("files") as File[], statementOf(form)));
    go("sweep");
  };
  return (
    <FileSheet words="Import a sweep" title="Import the sweep of a calibration" send={send}>
      <p>A sweep of beads in files: OME-TIFF, TIFF, or a folder in a ZIP file. The calibration is computed from it; the microscope is not needed.</p>
      <label>Files<input type="file" name="files" multiple required /></label>
      <label>Name<input name="name" type="text" maxLength={200} /></label>
      <div class="fields">
        <label>Camera pixel at the sample, µm<input name="pixel_size_um" type="number" step="any" min="0" placeholder="as the file states" /></label>
        <label>Step, µm<input name="z_step_um" type="number" step="any" min="0" placeholder="as the file states" /></label>
        <label>Depths from, µm<input name="low" type="number" step="any" placeholder="larger side" /></label>
        <label>Depths to, µm<input name="high" type="number" step="any" placeholder="of focus" /></label>
      </div>
    </FileSheet>
  );
}
