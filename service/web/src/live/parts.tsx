// A group of fields of the microscope, and the change that a field asks for.
import type { ComponentChild, ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { sentence } from "../api/problem";

/** Run a change; its refusal is returned to be shown under the field. */
export function useChange(): { fault: string; busy: boolean; change: (work: () => Promise<unknown>) => Promise<void> } {
  const [fault, setFault] = useState("");
  const [busy, setBusy] = useState(false);
  const change = async (work: () => Promise<unknown>): Promise<void> => {
    setBusy(true);
    setFault("");
    try {
      await work();
    } catch (error) {
      setFault(sentence(error));
    } finally {
      setBusy(false);
    }
  };
  return { fault, busy, change };
}

export function Group({ name, children, fault, busy, kind = "" }: { name: string; children: ComponentChildren; fault?: string; busy?: boolean; kind?: string }): ComponentChild {
  return (
    <fieldset class={`part ${kind}`} aria-busy={busy ?? false}>
      <legend>{name}{busy ? <i class="spinner" /> : null}</legend>
      {children}
      {fault ? <p class="wrong" role="alert">{fault}</p> : null}
    </fieldset>
  );
}
