// What all views share: the API, the state of the instrument, the last minute, jobs and events.
import { Api, type Event, type Job, type SystemFacts } from "../api/client";
import { EMPTY_MOMENT, History, type Moment } from "../tracks/history";
import type { Trails } from "../tracks/trails";
import { Connection } from "./connection";
import { after, type Happening, initial, type Instrument } from "./instrument";
import { Store } from "./store";

const TICK_MS = 250;
const SLOW_FRAME_MS = 40;
const LONGEST_PAUSE_MS = 500;
/** What is older is drawn without colour. */
const OLD_MS = 1500;
const MOST_EVENTS = 100;
const SYSTEM_EVERY_MS = 10_000;
const REFUSED_EVERY_MS = 2000;

export interface Shown {
  moment: Moment;
  trails: Trails;
  /** The tracks are of now, or of the time that the user has chosen; false: they are old, and drawn without colour. */
  current: boolean;
}

export const api = new Api();
export const history = new History();
export const instrument = new Store<Instrument>(initial(performance.now()));
export const jobs = new Store<readonly Job[]>([]);
export const events = new Store<readonly Event[]>([]);
export const system = new Store<SystemFacts | null>(null);
export const keyWrong = new Store(false);
export const notices = new Store<readonly { id: number; words: string; bad: boolean }[]>([]);
/** A time of the run at which the live view is frozen, s; null: it follows the run. */
export const frozenAt = new Store<number | null>(null);
export const shown = new Store<Shown>({ moment: EMPTY_MOMENT, trails: history.trails, current: true });
export const pictures = { count: 0 };

let numbers = 0;

export function notice(words: string, bad = true): void {
  const id = ++numbers;
  notices.change((now) => [...now.filter((each) => each.words !== words), { id, words, bad }].slice(-3));
  if (!bad) setTimeout(() => dismissNotice(id), 6000);
}

export function dismissNotice(id: number): void {
  notices.change((now) => now.filter((each) => each.id !== id));
}

export function happen(happening: Happening): void {
  instrument.change((state) => after(state, happening));
}

export function addJob(job: Job): void {
  jobs.change((now) => [job, ...now.filter(({ id }) => id !== job.id)].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, 30));
}

let waiting = false;
let frameMs = 0;

/**
 * Choose the moment that is shown, once before the next repaint. Where drawing is slow, as in software, as much time is
 * left to the messages as the drawing takes; otherwise they would wait, and the page would show ever older tracks.
 */
export function renew(): void {
  if (waiting) return;
  waiting = true;
  if (frameMs > SLOW_FRAME_MS) setTimeout(choose, Math.min(frameMs, LONGEST_PAUSE_MS));
  else choose();
}

function choose(): void {
  requestAnimationFrame(() => {
    const begin = performance.now();
    requestAnimationFrame(() => requestAnimationFrame(() => (frameMs = (performance.now() - begin) / 2)));
    waiting = false;
    const at = frozenAt.get();
    const moment = at === null ? history.live(performance.now()) : history.at(at);
    const now = performance.now();
    const { tracksAt, link, run } = instrument.get();
    const newest = Math.max(run !== null || moment.picture === null ? (tracksAt ?? -OLD_MS) : -OLD_MS, moment.picture?.came ?? -OLD_MS);
    const old = at === null && now - newest > OLD_MS;
    const current = !old && link === "open";
    const before = shown.get();
    // Tracks come more often than pictures; while the same pair is the newest, nothing is drawn again.
    if (before.moment.picture === moment.picture && before.moment.tracks === moment.tracks && before.current === current) return;
    shown.set({ moment, trails: history.trails, current });
  });
}

export const connection = new Connection(api, history, {
  happen,
  job: addJob,
  event: (event) =>
    events.change((now) => [dated(event), ...now].slice(0, MOST_EVENTS)),
  events: (items) => events.set(items),
  renewed: renew,
  forget: () => {
    frozenAt.set(null);
    renew();
  },
  notice,
  keyWrong: (wrong) => keyWrong.set(wrong),
});

/** Events of the feed have their time in Unix seconds. */
function dated(event: Event & { occurred_s?: number }): Event {
  return event.occurred_s === undefined ? event : { ...event, occurred_at: new Date(event.occurred_s * 1000).toISOString() };
}

export async function readSystem(): Promise<void> {
  try {
    system.set(await api.system());
  } catch {
    // The state of the connection tells that the service does not answer.
  }
}

export function start(): void {
  void connection.connect();
  let jobsRead = false;
  setInterval(() => {
    happen({ kind: "tick", now: performance.now() });
    renew();
    if (!jobsRead && instrument.get().link === "open") {
      jobsRead = true;
      api.jobs().then(({ items }) => items.forEach(addJob), () => (jobsRead = false));
      void readSystem();
    }
  }, TICK_MS);
  setInterval(() => instrument.get().link === "open" && void readSystem(), SYSTEM_EVERY_MS);
  // A socket does not tell why it was refused; a request does.
  setInterval(() => instrument.get().link === "lost" && void readSystem(), REFUSED_EVERY_MS);
}
