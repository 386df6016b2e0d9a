// Short notices: what could not be done, and why. Errors stay until they are dismissed.
import type { ComponentChild } from "preact";
import { dismissNotice, notices } from "../state/app";
import { useStore } from "../state/store";

export function Notices(): ComponentChild {
  const all = useStore(notices, (value) => value);
  return (
    <div class="notices" id="notice">
      {all.map(({ id, words, bad }) => (
        <div key={id} class={bad ? "notice bad" : "notice"} role={bad ? "alert" : "status"}>
          <span>{words}</span>
          <button type="button" aria-label="Dismiss" onClick={() => dismissNotice(id)}>×</button>
        </div>
      ))}
    </div>
  );
}
