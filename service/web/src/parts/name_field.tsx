// A name that is changed where it stands.
import type { ComponentChild } from "preact";
import { useState } from "preact/hooks";
import { sentence } from "../api/problem";
import { notice } from "../state/app";

interface NameFieldProps {
  /** What has the name, such as "run". */
  of: string;
  id: string;
  name: string;
  save(name: string): Promise<unknown>;
}

export function NameField({ of, id, name, save }: NameFieldProps): ComponentChild {
  const [text, setText] = useState<string | null>(null);
  const rename = async (): Promise<void> => {
    if (text !== null && text !== name) {
      try {
        await save(text);
      } catch (error) {
        notice(sentence(error));
      }
    }
    setText(null);
  };
  return <input class="title" aria-label={`Name of the ${of}${of === "run" ? "" : ` ${id}`}`} maxLength={200} value={text ?? name} placeholder={id} onInput={(event) => setText(event.currentTarget.value)} onBlur={() => void rename()} onKeyDown={(event) => event.key === "Enter" && event.currentTarget.blur()} />;
}
