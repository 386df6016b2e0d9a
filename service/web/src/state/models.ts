// Models by their ids: people read names.
import type { Model } from "../api/client";
import { api } from "./app";
import { useEffect } from "preact/hooks";
import { Store, useStore } from "./store";

export const models = new Store<readonly Model[]>([]);

/** Ids that were not in the list when it was read; it is not read for each of them again. */
const asked = new Set<string>();
let reading = false;

/** Name of a model for people; its id where it has none, or was deleted. */
export function nameOf(all: readonly Pick<Model, "id" | "name">[], id: string | null | undefined): string {
  return id ? all.find((model) => model.id === id)?.name || id : "";
}

export function setModels(all: readonly Model[]): void {
  asked.clear();
  models.set(all);
}

/** Name of a model; the list of models is read when the model is not in it. */
export function useModelName(id: string | null | undefined): string {
  const all = useStore(models, (value) => value);
  useEffect(() => {
    if (!id || reading || asked.has(id) || all.some((model) => model.id === id)) return;
    reading = true;
    asked.add(id);
    api.models().then(({ items }) => models.set(items), () => asked.delete(id)).finally(() => (reading = false));
  }, [id, all]);
  return nameOf(all, id);
}
