// A value with listeners, and the hook that reads a part of it.
import { useEffect, useRef, useState } from "preact/hooks";

export class Store<Value> {
  private readonly listeners = new Set<() => void>();

  constructor(private value: Value) {}

  get(): Value {
    return this.value;
  }

  set(value: Value): void {
    if (value === this.value) return;
    this.value = value;
    for (const listener of [...this.listeners]) listener();
  }

  change(by: (value: Value) => Value): void {
    this.set(by(this.value));
  }

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

/** A part of a store; the component is drawn again when the part is another one. */
export function useStore<Value, Part>(store: Store<Value>, part: (value: Value) => Part, equal: (a: Part, b: Part) => boolean = Object.is): Part {
  const [, redraw] = useState(0);
  const shown = useRef<{ part: Part; read: (value: Value) => Part }>(null!);
  const now = part(store.get());
  shown.current = { part: shown.current && equal(shown.current.part, now) ? shown.current.part : now, read: part };
  useEffect(() => {
    const look = (): void => {
      if (!equal(shown.current.part, shown.current.read(store.get()))) redraw((count) => count + 1);
    };
    look();
    return store.listen(look);
  }, [store]);
  return shown.current.part;
}

/** Equality of plain values by their content. */
export function sameContent(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
