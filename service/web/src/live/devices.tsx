// Presets of Micro-Manager's configuration groups, and the properties of all devices.
import type { ComponentChild } from "preact";
import { useState } from "preact/hooks";
import type { DeviceProperty } from "../api/client";
import { sentence } from "../api/problem";
import { api } from "../state/app";
import type { MicroscopeFacts } from "../state/status";
import { Group, useChange } from "./parts";

const MOST_SHOWN = 60;

export function Presets({ facts, held }: { facts: MicroscopeFacts; held: boolean }): ComponentChild {
  const { fault, busy, change } = useChange();
  const groups = facts.presets ?? [];
  if (!groups.length) return null;
  return (
    <Group name="Presets" fault={fault} busy={busy}>
      {groups.map(({ name, presets, current }) => (
        <label key={name}>{name}
          <select
            value={current ?? ""} disabled={held}
            onChange={(event) => void change(() => api.changeMicroscope({ preset: { group: name, name: event.currentTarget.value } }))}
          >
            {current === null ? <option value="">none of these</option> : null}
            {presets.map((preset) => <option key={preset}>{preset}</option>)}
          </select>
        </label>
      ))}
    </Group>
  );
}

/** The properties are read when the list is opened, because reading them asks every device. */
export function Properties({ held }: { held: boolean }): ComponentChild {
  const [all, setAll] = useState<readonly DeviceProperty[] | null>(null);
  const [search, setSearch] = useState("");
  const [fault, setFault] = useState("");
  const read = (): void => {
    setFault("");
    api.properties().then(({ items }) => setAll(items), (error: unknown) => setFault(sentence(error)));
  };
  const words = search.toLowerCase();
  const found = (all ?? []).filter(({ device, name }) => `${device} ${name}`.toLowerCase().includes(words));
  return (
    <details class="part properties" onToggle={(event) => event.currentTarget.open && read()}>
      <summary>Device properties</summary>
      {fault ? <p class="wrong" role="alert">{fault}</p> : null}
      {all ? (
        <>
          <label>Search<input type="search" value={search} onInput={(event) => setSearch(event.currentTarget.value)} /></label>
          <ul>
            {found.slice(0, MOST_SHOWN).map((item) => <Property key={item.id} item={item} held={held} renewed={(now) => setAll(all.map((each) => (each.id === now.id ? now : each)))} />)}
          </ul>
          <p class="hint">{found.length > MOST_SHOWN ? `${MOST_SHOWN} of ${found.length}; search for the others.` : `${found.length} properties.`}</p>
        </>
      ) : fault ? null : <p class="hint">They are read …</p>}
    </details>
  );
}

function Property({ item, held, renewed }: { item: DeviceProperty; held: boolean; renewed: (item: DeviceProperty) => void }): ComponentChild {
  const { fault, busy, change } = useChange();
  const [text, setText] = useState<string | null>(null);
  const send = (value: string): void => {
    setText(null);
    if (value !== item.value) void change(async () => renewed(await api.changeProperty({ device: item.device, name: item.name, value })));
  };
  const locked = held || busy || item.not_settable !== null;
  const label = `${item.device}, ${item.name}`;
  return (
    <li title={item.not_settable ?? ""}>
      <span>{item.device} <b>{item.name}</b></span>
      {item.not_settable !== null ? <span class="value">{item.value}</span> : item.allowed.length ? (
        <select aria-label={label} value={item.value} disabled={locked} onChange={(event) => send(event.currentTarget.value)}>
          {item.allowed.map((value) => <option key={value}>{value}</option>)}
        </select>
      ) : (
        <input
          aria-label={label} value={text ?? item.value} disabled={locked} onInput={(event) => setText(event.currentTarget.value)}
          onBlur={() => text !== null && send(text)} onKeyDown={(event) => event.key === "Enter" && text !== null && send(text)}
        />
      )}
      {fault ? <span class="wrong" role="alert">{fault}</span> : null}
    </li>
  );
}
