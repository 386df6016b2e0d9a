// What happened, newest first.

const SHOWN = 6;

export class EventList {
  private empty = true;

  constructor(private readonly holder: HTMLElement) {}

  add(message: Record<string, unknown>): void {
    const said = message["message"] ?? message["problem"] ?? message["text"] ?? message["kind"] ?? message["type"];
    if (typeof said !== "string") return;
    if (this.empty) this.holder.replaceChildren();
    this.empty = false;
    const item = document.createElement("li");
    const time = document.createElement("time");
    const at = when(message["at"] ?? message["time"] ?? message["time_s"] ?? message["created_at"]);
    time.dateTime = at.toISOString();
    time.textContent = at.toLocaleTimeString("en-GB");
    const words = document.createElement("span");
    words.textContent = said;
    item.append(time, words);
    if (message["level"] === "warning" || message["level"] === "error") item.className = "warning";
    this.holder.prepend(item);
    while (this.holder.children.length > SHOWN) this.holder.lastElementChild!.remove();
  }
}

/** Unix seconds or ISO text; without either, now. */
function when(value: unknown): Date {
  const date = typeof value === "number" ? new Date(value * 1000) : new Date(String(value));
  return Number.isNaN(date.getTime()) ? new Date() : date;
}
