// The button that copies the address of what is shown: view, run, time, tracks, side.
import type { ComponentChild } from "preact";
import { copyText } from "../parts/copy_text";
import { notice } from "../state/app";

export function CopyLink(): ComponentChild {
  const copy = async (): Promise<void> => {
    if (await copyText(location.href)) notice("The address of this view is copied.", false);
    else notice(`The browser does not allow copying. The address is ${location.href}`);
  };
  return (
    <button type="button" class="quiet icon" aria-label="Copy link to this view" title="Copy link to this view" onClick={() => void copy()}>
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M10 14a4 4 0 0 0 6 .4l3-3a4 4 0 0 0-5.7-5.7l-1.5 1.5M14 10a4 4 0 0 0-6-.4l-3 3a4 4 0 0 0 5.7 5.7l1.5-1.5" /></svg>
    </button>
  );
}
