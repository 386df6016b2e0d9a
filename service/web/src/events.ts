// The list of events, newest first.

const SHOWN = 6;

export interface EventItem {
  kind: string;
  message: string;
  occurred_s?: number; // from the feed, Unix seconds
  occurred_at?: string; // from the list, ISO 8601
}

export class EventList {
  constructor(private readonly holder: HTMLElement) {}

  /** Replace all events by a list, newest first. */
  replace(events: EventItem[]): void {
    if (events.length) this.holder.replaceChildren(...events.slice(0, SHOWN).map(line));
  }

  add(event: EventItem): void {
    this.holder.querySelector(".none")?.remove();
    this.holder.prepend(line(event));
    while (this.holder.children.length > SHOWN) this.holder.lastElementChild!.remove();
  }
}

function line(event: EventItem): HTMLElement {
  const at = new Date(event.occurred_s === undefined ? (event.occurred_at ?? Date.now()) : event.occurred_s * 1000);
  const time = document.createElement("time");
  time.dateTime = at.toISOString();
  time.textContent = at.toLocaleTimeString("en-GB");
  const words = document.createElement("span");
  words.textContent = event.message;
  const item = document.createElement("li");
  item.append(time, words);
  if (/fail|away|lost|drop/.test(event.kind)) item.className = "warning";
  return item;
}
