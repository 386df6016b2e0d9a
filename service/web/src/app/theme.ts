// Dark, light, or as the system has it.
import type { Ground } from "../colour/depth";
import { Store } from "../state/store";

export type Theme = "follow" | "dark" | "light";
const KEPT = "bathyscope-theme";

export const theme = new Store<Theme>((localStorage.getItem(KEPT) as Theme | null) ?? "follow");
export const ground = new Store<Ground>("dark");

export function startTheme(): void {
  const light = matchMedia("(prefers-color-scheme: light)");
  const apply = (): void => {
    const chosen = theme.get();
    const now: Ground = chosen === "follow" ? (light.matches ? "light" : "dark") : chosen;
    document.documentElement.dataset["theme"] = now;
    ground.set(now);
    localStorage.setItem(KEPT, chosen);
  };
  light.addEventListener("change", apply);
  theme.listen(apply);
  apply();
}
