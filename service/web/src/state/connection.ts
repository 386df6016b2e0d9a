// The connection to the service: access, three sockets, and what they bring. It belongs to no view, so it works when a
// view fails.
import { type Api, type Event, type Job, socketAddress } from "../api/client";
import { FORBIDDEN, Problem, sentence, UNAUTHORIZED } from "../api/problem";
import { KEY_REFUSED, LiveSocket } from "../api/socket";
import { column, decodeMessage, type Message, PREVIEW, TRACKS } from "../api/wire";
import { type History, type Picture } from "../tracks/history";
import { snapshotOf } from "../tracks/snapshot";
import type { Happening, Link } from "./instrument";
import type { Status } from "./status";

const RETRY_MS = 2000;
/** Longer than RETRY_MS, because a refusal ends only when the settings of the service change. */
const RETRY_REFUSED_MS = 10_000;
const SOCKETS = ["stream", "preview", "feed"] as const;

export interface Receiver {
  happen(happening: Happening): void;
  job(job: Job): void;
  event(event: Event): void;
  events(events: Event[]): void;
  /** A new picture or new tracks are in the history. */
  renewed(): void;
  forget(): void;
  notice(words: string): void;
  keyWrong(wrong: boolean): void;
}

export class Connection {
  private readonly open = new Set<string>();
  private sockets: LiveSocket[] = [];
  private connecting = false;
  private everOpen = false;
  private retry = 0;
  private refusal: string | null = null;
  private answerKey: ((key: string) => void) | null = null;
  private epoch: string | null = null;
  private run: string | null = null;

  constructor(
    private readonly api: Api,
    private readonly history: History,
    private readonly to: Receiver,
  ) {
    api.onRefusal = () => void this.connect();
  }

  /** The key that the user has entered. */
  give(key: string): void {
    this.answerKey?.(key);
    this.answerKey = null;
  }

  /** Get access, with a key where the service needs one, and open the sockets. */
  async connect(): Promise<void> {
    if (this.connecting) return;
    this.connecting = true;
    clearTimeout(this.retry);
    for (const socket of this.sockets) socket.close();
    this.sockets = [];
    this.open.clear();
    let again = 0;
    try {
      await this.enter();
    } catch (error) {
      const refused = error instanceof Problem;
      again = refused ? RETRY_REFUSED_MS : RETRY_MS;
      this.refusal = refused ? sentence(error) : null;
      this.link(refused ? "refused" : "lost", this.refusal);
    }
    this.connecting = false;
    if (again) {
      this.retry = window.setTimeout(() => void this.connect(), again);
      return;
    }
    this.refusal = null;
    this.showLink();
    this.readEvents();
    for (const name of SOCKETS) this.socket(name);
  }

  readEvents(): void {
    this.api.events({ limit: 30 }).then(
      ({ items }) => this.to.events(items),
      () => undefined, // new events come through the feed
    );
  }

  private async enter(): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        await this.api.enter();
        this.to.keyWrong(false);
        return;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (error.status === FORBIDDEN && error.kind !== "role") throw error;
        if (error.status !== UNAUTHORIZED) return; // the key is accepted; the error has another reason
        this.to.keyWrong(tries > 0 || this.api.key !== null);
        this.link("locked");
        this.api.key = await new Promise<string>((resolve) => (this.answerKey = resolve));
      }
    }
  }

  private socket(name: (typeof SOCKETS)[number]): void {
    const socket = new LiveSocket(socketAddress(`api/v1/${name}`), () => this.api.key, {
      message: (data) => {
        try {
          if (data instanceof ArrayBuffer) this.receive(decodeMessage(data), data.byteLength);
          else this.receiveFeed(JSON.parse(data) as Feed);
        } catch (error) {
          this.to.notice(`A message could not be read: ${String(error)}`);
        }
      },
      connected: (open) => {
        if (open) this.open.add(name);
        else this.open.delete(name);
        this.showLink();
        if (open && name === "feed" && this.everOpen) this.readEvents();
      },
      refused: (code, reason) => {
        if (code === KEY_REFUSED) {
          void this.connect();
          return;
        }
        this.refusal = `The service has closed the connection for ${name}: ${reason || "no reason given"} (${code}). Reload the page.`;
        this.showLink();
      },
    });
    this.sockets.push(socket);
    socket.open();
  }

  private showLink(): void {
    if (this.connecting) return; // `connect` sets the state itself
    if (this.refusal !== null) this.link("refused", this.refusal);
    else if (this.open.size === SOCKETS.length) {
      this.everOpen = true;
      this.link("open");
    } else this.link(this.everOpen ? "lost" : "connecting");
  }

  private link(link: Link, reason: string | null = null): void {
    this.to.happen({ kind: "link", now: performance.now(), link, reason });
  }

  private receive(message: Message, bytes: number): void {
    this.enterEpoch(message.header.epoch);
    if (message.kind === TRACKS) {
      const run = message.header.run ?? null;
      if (run !== this.run) {
        this.run = run;
        this.history.clear();
        this.to.forget();
      }
      const snapshot = snapshotOf(message, bytes);
      this.history.addTracks(snapshot);
      const lateMs = Math.max(0, (message.header.published_s - snapshot.captured_s) * 1000);
      this.to.happen({ kind: "tracks", now: performance.now(), run, count: snapshot.count, lateMs });
      this.to.renewed();
    } else if (message.kind === PREVIEW) {
      const picture = pictureOf(message);
      if (!picture) return;
      // Without a run the camera counts its frames anew, and the tracks that were there are of another time.
      if (!message.header.run && this.run !== null) {
        this.run = null;
        this.history.clear();
      }
      this.history.addPicture(picture);
      this.to.renewed();
    }
  }

  private receiveFeed(message: Feed): void {
    if (message.type === "job") this.to.job(message);
    else if (message.type === "event") this.to.event(message as unknown as Event);
    else {
      if (message.epoch) this.enterEpoch(message.epoch);
      this.to.happen({ kind: "status", now: performance.now(), status: message });
    }
  }

  /** A new epoch means a new engine process: clear everything that the old one sent, and read the events it left. */
  private enterEpoch(epoch: string): void {
    if (epoch === this.epoch) return;
    if (this.epoch !== null) {
      this.history.clear();
      this.run = null;
      this.to.forget();
      this.readEvents();
    }
    this.epoch = epoch;
  }
}

type Feed = Status | (Job & { type: "job" }) | { type: "event"; kind: string; message: string };

function pictureOf(message: Message): Picture | null {
  const { header } = message;
  const { width = 0, height = 0 } = header;
  const grey = column(message, "pixels");
  if (width * height === 0 || grey.length !== width * height || !(grey instanceof Uint8Array)) return null;
  return {
    frame: header.frame ?? 0,
    captured_s: header.captured_s,
    width,
    height,
    scale: header.scale ?? 1,
    low_adu: header.low_adu ?? 0,
    high_adu: header.high_adu ?? 255,
    saturated: header.saturated ?? null,
    histogram: header.histogram ?? null,
    grey,
    came: performance.now(),
  };
}
