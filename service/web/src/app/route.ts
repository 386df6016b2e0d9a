// The view that is shown, which is the address of the page.
import { Store } from "../state/store";
import { hashOf, parseRoute, type Route, type ViewName } from "./address";

export const route = new Store<Route>(parseRoute(location.hash));

export function go(view: ViewName, run: string | null = null, values: Record<string, string> = {}): void {
  location.hash = hashOf({ view, run, values });
}

/** Put values of the view into the address without a new step in the browser's history. */
export function remember(values: Record<string, string>): void {
  const now = route.get();
  const next = { ...now, values: { ...now.values, ...values } };
  if (hashOf(next) === hashOf(now)) return;
  window.history.replaceState(null, "", hashOf(next));
  route.set(next);
}

window.addEventListener("hashchange", () => route.set(parseRoute(location.hash)));
