// A button that deletes something after a question.
import type { ComponentChild } from "preact";
import { useRef } from "preact/hooks";
import { sentence } from "../api/problem";
import { notice } from "../state/app";

interface DeleteProps {
  /** What is deleted, such as "run beads in water". */
  what: string;
  /** What is lost with it, as a sentence. */
  loses: string;
  remove(): Promise<unknown>;
  done(): void;
}

export function Delete({ what, loses, remove, done }: DeleteProps): ComponentChild {
  const dialog = useRef<HTMLDialogElement>(null);
  const confirmed = async (): Promise<void> => {
    dialog.current!.close();
    try {
      await remove();
      notice(`${what[0]!.toUpperCase()}${what.slice(1)} is deleted.`, false);
      done();
    } catch (error) {
      notice(sentence(error));
    }
  };
  return (
    <>
      <button type="button" class="small" onClick={() => dialog.current!.showModal()}>Delete</button>
      <dialog ref={dialog} aria-label={`Delete ${what}`}>
        <h2>Delete {what}?</h2>
        <p>{loses} This cannot be undone.</p>
        <div class="row end">
          <button type="button" onClick={() => dialog.current!.close()}>Keep it</button>
          <button type="button" class="danger" onClick={() => void confirmed()}>Delete</button>
        </div>
      </dialog>
    </>
  );
}
