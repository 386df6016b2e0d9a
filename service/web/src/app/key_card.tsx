// The card that asks for the access key. It stands in the page and cannot be closed.
import type { ComponentChild } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { connection, keyWrong } from "../state/app";
import { useStore } from "../state/store";

export function KeyCard(): ComponentChild {
  const wrong = useStore(keyWrong, (value) => value);
  const [seen, show] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), [wrong]);
  useEffect(() => void (input.current!.type = seen ? "text" : "password"), [seen]);
  return (
    <section class="card says" id="key-card" aria-labelledby="key-title">
      <h1 id="key-title">Access key</h1>
      <p>This service accepts connections from the network. Enter its access key, once per browser session.</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const key = input.current!.value.trim();
          input.current!.value = "";
          keyWrong.set(false);
          connection.give(key);
        }}
      >
        <input type="text" autocomplete="username" value="bathyscope" hidden readOnly />
        <label for="key">Key</label>
        <div class="row">
          <input
            id="key" ref={input} type="password" autocomplete="current-password" required
            aria-invalid={wrong} aria-describedby={wrong ? "key-wrong key-where" : "key-where"}
          />
          <button type="button" aria-pressed={seen} onClick={() => show(!seen)}>{seen ? "Hide" : "Show"}</button>
        </div>
        {wrong ? <p class="wrong" id="key-wrong" role="alert">The key is wrong.</p> : null}
        <p class="hint" id="key-where">
          The person who set up the service has it: it is the setting <code>access_key</code>, or one made with <code>bathyscope key add</code>.
        </p>
        <button type="submit" class="primary">Connect</button>
      </form>
    </section>
  );
}
