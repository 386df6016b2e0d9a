// Which tracks are selected, hovered and followed, in all panes alike.
import { Store } from "../state/store";

export const MOST_SELECTED = 8;

export interface Selection {
  ids: readonly number[];
  hovered: number | null;
  followed: number | null;
  /** Only the selected tracks are shown. */
  alone: boolean;
}

export const NONE: Selection = { ids: [], hovered: null, followed: null, alone: false };
export const selection = new Store<Selection>(NONE);

/** Select a track; a selected one is deselected. `more` keeps the others. */
export function pick(id: number | null, more: boolean): void {
  selection.change((now) => {
    if (id === null) return more || !now.ids.length ? now : { ...now, ids: [], followed: null, alone: false };
    if (now.ids.includes(id)) return without(now, id);
    return { ...now, ids: more ? [...now.ids, id].slice(-MOST_SELECTED) : [id] };
  });
}

export function without(now: Selection, id: number): Selection {
  const ids = now.ids.filter((each) => each !== id);
  return { ...now, ids, followed: now.followed === id ? null : now.followed, alone: now.alone && ids.length > 0 };
}

export function hover(id: number | null): void {
  selection.change((now) => (now.hovered === id ? now : { ...now, hovered: id }));
}
