// The keys, and the list of them under `?`.
import type { ComponentChild } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Store } from "../state/store";

export interface Key {
  key: string;
  /** As it is written in the list. */
  shown: string;
  words: string;
  /** The key counts only while something inside this selector has the focus. */
  within?: string;
  run(event: KeyboardEvent): void;
}

const open = new Store(false);
const keys = new Map<string, Key>();
const ALWAYS: readonly (readonly [string, string])[] = [
  ["Ctrl + .", "Stop the microscope"],
  ["?", "This list"],
  ["Tab, Enter, Space", "Go to and use any button, field or row"],
  ["← → ↑ ↓", "3D: turn the view. Image: move it. Timeline: step"],
  ["+ −", "Zoom in the pane that has the focus"],
];

/** Keys that hold while the component is shown. */
export function useKeys(list: readonly Key[]): void {
  const latest = useRef(list);
  latest.current = list;
  useEffect(() => {
    for (const { key } of list) keys.set(key, { ...find(latest.current, key), run: (event) => find(latest.current, key).run(event) });
    return () => list.forEach(({ key }) => keys.delete(key));
  }, []);
}

function find(list: readonly Key[], key: string): Key {
  return list.find((each) => each.key === key)!;
}

export function onKey(event: KeyboardEvent): void {
  const at = event.target instanceof HTMLElement ? event.target : null;
  if (event.ctrlKey || event.metaKey || event.altKey || at?.closest("input:not([type=range]):not([type=checkbox]), textarea, select, dialog")) return;
  if (event.key === "?") {
    open.set(true);
    return;
  }
  const key = keys.get(event.key.length === 1 ? event.key.toLowerCase() : event.key);
  // Space and Enter belong to the button that has the focus.
  if (!key || ((event.key === " " || event.key === "Enter") && at?.closest("button, a, [role=slider], summary"))) return;
  if (key.within !== undefined && !at?.closest(key.within)) return;
  event.preventDefault();
  key.run(event);
}

export function Help(): ComponentChild {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => open.listen(() => open.get() && !dialog.current?.open && dialog.current?.showModal()), []);
  return (
    <dialog ref={dialog} aria-labelledby="help-title" onClose={() => open.set(false)}>
      <HelpList close={() => dialog.current?.close()} />
    </dialog>
  );
}

function HelpList({ close }: { close: () => void }): ComponentChild {
  const list = [...ALWAYS, ...[...keys.values()].map(({ shown, words }) => [shown, words] as const)];
  return (
    <>
      <h2 id="help-title">Keys</h2>
      <dl class="keys">
        {list.map(([key, words]) => (
          <div key={key + words}><dt><kbd>{key}</kbd></dt><dd>{words}</dd></div>
        ))}
      </dl>
      <button type="button" onClick={close}>Close</button>
    </>
  );
}

export function showHelp(): void {
  open.set(true);
}
