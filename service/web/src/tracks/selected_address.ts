// The selected tracks as a part of the address.
import { remember, route } from "../app/route";
import { NONE, selection } from "./selection";

/** Take the selected tracks from the address, and keep them there until the function that is returned is called. */
export function followSelection(): () => void {
  const ids = (route.get().values["track"] ?? "").split(",").filter(Boolean).map(Number).filter(Number.isInteger);
  selection.set({ ...NONE, ids });
  const end = selection.listen(() => remember({ track: selection.get().ids.join(",") }));
  return () => {
    end();
    selection.set(NONE);
  };
}
