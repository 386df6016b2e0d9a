// The page: it receives three live sockets, keeps one state, and shows it in several views.
import "./style.css";
import { admitted } from "./access";
import { Api, Problem, sentence, socketAddress } from "./api";
import { Rate, RateChart } from "./charts";
import { drawRamp } from "./depth";
import { type EventItem, EventList } from "./events";
import { LatencyTable, LedgerTable, Percentiles } from "./ledger";
import { Preview } from "./preview";
import { TrackScene, type View } from "./scene";
import { KEY_REFUSED, LiveSocket } from "./socket";
import { describe, grown, problemOf, type StatusMessage, volumeOf } from "./status";
import { decodeMessage, type Message, PREVIEW, TRACKS } from "./stream";
import { Tracks } from "./tracks";

const READY_EVERY_MS = 1000;
const RETRY_MS = 2000;
/** Longer than RETRY_MS, because a refusal ends only when the settings of the service change. */
const RETRY_REFUSED_MS = 10_000;
const NOTICE_MS = 6000;
/** After this time without a message, the page reports that its tracks are out of date. */
const STALE_MS = 3000;

function element<Kind extends HTMLElement = HTMLElement>(id: string): Kind {
  return document.getElementById(id) as Kind;
}

class Page {
  private readonly api = new Api();
  private readonly tracks = new Tracks();
  private readonly scene = new TrackScene(element<HTMLCanvasElement>("scene-canvas"), element("scene-labels"));
  private readonly preview = new Preview(element<HTMLCanvasElement>("preview"));
  private readonly analysed = new Rate();
  private readonly rate = new RateChart(element("rate-chart"));
  private readonly ledger = new LedgerTable(element("ledger"), element("balance"));
  private readonly latency = new LatencyTable(element("latency"));
  private readonly painted = new Percentiles();
  private readonly events = new EventList(element("events"));
  private readonly open = new Set<string>();
  private sockets: LiveSocket[] = [];
  /** Why the service refuses this page permanently; null when it accepts it. */
  private refusal: string | null = null;
  private connecting = false;
  private away = false;
  private retry = 0;
  private status: StatusMessage | null = null;
  private epoch: string | null = null;
  private run: string | null = null;
  private lastTracks = 0;
  private previews = 0;
  private busy = false;

  start(): void {
    drawRamp(element<HTMLCanvasElement>("legend-ramp"));
    this.showVolume();
    this.bind();
    this.showConnection();
    this.api.onRefusal = () => void this.connect();
    void this.connect();
    setInterval(() => void this.watch(), READY_EVERY_MS);
  }

  /** Get access, with a key where the service needs one, and open the sockets. */
  private async connect(): Promise<void> {
    if (this.connecting) return;
    this.connecting = true;
    clearTimeout(this.retry);
    for (const socket of this.sockets) socket.close();
    this.sockets = [];
    this.open.clear();
    let again = 0;
    try {
      await admitted(this.api, () => this.setConnection("locked", "access key needed"));
    } catch (error) {
      again = error instanceof Problem ? RETRY_REFUSED_MS : RETRY_MS;
      if (error instanceof Problem) this.refuse(sentence(error));
      else this.away = true;
    }
    this.connecting = false;
    this.showConnection();
    if (again) {
      this.retry = window.setTimeout(() => void this.connect(), again);
      return;
    }
    this.refusal = null;
    this.away = false;
    this.showConnection();
    this.api.events().then(
      (events) => this.events.replace(events),
      () => undefined, // new events come through the feed
    );
    this.socket("stream", (data) => data instanceof ArrayBuffer && this.receive(decodeMessage(data)));
    this.socket("preview", (data) => data instanceof ArrayBuffer && this.receive(decodeMessage(data)));
    this.socket("feed", (data) => typeof data === "string" && this.receiveFeed(JSON.parse(data) as StatusMessage));
  }

  private refuse(words: string): void {
    if (this.refusal === null) this.notice(words, true);
    this.refusal = words;
    this.showConnection();
    this.explain("The service refuses this page", words);
  }

  private socket(name: string, message: (data: ArrayBuffer | string) => unknown): void {
    const socket = new LiveSocket(socketAddress(`api/v1/${name}`), () => this.api.key, {
      message: (data) => {
        try {
          message(data);
        } catch (error) {
          this.notice(`A message could not be read: ${String(error)}`, true);
        }
      },
      connected: (open) => {
        if (open) this.open.add(name);
        else this.open.delete(name);
        this.showConnection();
      },
      refused: (code, reason) => {
        if (code === KEY_REFUSED) void this.connect();
        else this.refuse(`The service has closed the connection for ${name}: ${reason || "no reason given"} (${code}). Reload the page.`);
      },
    });
    this.sockets.push(socket);
    socket.open();
  }

  private receive(message: Message): void {
    this.enterEpoch(message.header.epoch);
    if (message.kind === TRACKS) this.receiveTracks(message);
    else if (message.kind === PREVIEW && this.preview.show(message)) this.showPreview(message);
  }

  private receiveTracks(message: Message): void {
    const { header } = message;
    this.lastTracks = performance.now();
    if ((header.run ?? null) !== this.run) this.forget();
    this.run = header.run ?? null;
    this.tracks.update(message);
    if (!this.status || !volumeOf(this.status)) this.setVolume(grown(this.scene.volume, this.tracks));
    this.scene.update(this.tracks, () => {
      this.painted.add(Date.now() - header.captured_s * 1000);
    });
    document.body.dataset["tracks"] = String(this.tracks.count);
    document.body.dataset["frame"] = String(header.frame ?? "");
    element("track-count").textContent = String(this.tracks.count);
    if (header.ledger) this.ledger.show(header.ledger);
    const { tracked } = header;
    this.showRate(tracked === undefined ? null : this.analysed.add(tracked), header.t_s ?? null);
    this.showEmpty();
  }

  private showPreview(message: Message): void {
    const { header } = message;
    this.preview.draw(this.tracks, this.scene.volume);
    element("preview-empty").hidden = true;
    document.body.dataset["previews"] = String(++this.previews);
    const range = header.low_adu !== undefined ? ` · ${Math.round(header.low_adu)} to ${Math.round(header.high_adu ?? 0)} ADU` : "";
    element("preview-caption").textContent = `frame ${(header.frame ?? 0).toLocaleString("en")}${range}`;
  }

  private receiveFeed(message: StatusMessage | (EventItem & { type: "event" }) | { type: "job" }): void {
    if (message.type === "job") return; // the page shows jobs through their events
    if (message.type !== "status") {
      this.events.add(message);
      return;
    }
    this.status = message;
    if (message.epoch) this.enterEpoch(message.epoch);
    const volume = volumeOf(message);
    if (volume) this.setVolume(volume);
    // Between runs the page shows the ledger of the last run.
    if (message.ledger) this.ledger.show(message.ledger);
    this.latency.show({ ...message.latency_ms, painted: this.painted.read() });
    element("machine").textContent = describe(message);
    this.showRun();
    this.showEmpty();
  }

  /** A new epoch means a new engine process: clear everything that the page shows. */
  private enterEpoch(epoch: string): void {
    if (epoch === this.epoch) return;
    this.epoch = epoch;
    this.run = null;
    this.forget();
    document.body.dataset["epoch"] = epoch;
  }

  private forget(): void {
    this.tracks.clear();
    this.painted.clear();
    this.analysed.clear();
    this.scene.update(this.tracks);
    document.body.dataset["tracks"] = "0";
  }

  private setVolume(volume: TrackScene["volume"]): void {
    this.scene.setVolume(volume);
    this.showVolume();
  }

  private showVolume(): void {
    const [low, high] = this.scene.volume.z;
    element("legend-low").textContent = low === 0 ? "0 µm focus" : `${+low.toPrecision(4)} µm`;
    element("legend-high").textContent = `${+high.toPrecision(4)} µm`;
  }

  private showRate(fps: number | null, seconds: number | null): void {
    element("fps").textContent = fps === null ? "–" : fps.toFixed(fps < 9.95 ? 1 : 0);
    element("run-time").textContent = seconds === null ? "–" : duration(seconds);
    this.rate.add(fps);
  }

  private live(): boolean {
    return performance.now() - this.lastTracks < STALE_MS && this.lastTracks > 0;
  }

  private showRun(): void {
    const status = this.status;
    const run = status?.run_id ?? "";
    const running = run !== "";
    const pill = element("run-state");
    pill.textContent = running ? (status?.record ? "running, recording" : "running") : (status?.state ?? "no run");
    pill.dataset["tone"] = status?.problem ? "bad" : running ? "good" : "calm";
    element("run-name").textContent = run;
    document.body.dataset["run"] = run;
    const button = element<HTMLButtonElement>("run");
    button.disabled = this.busy || !(running || status?.state === "ready");
    button.textContent = running ? "Stop run" : "Start run";
    button.classList.toggle("primary", !running);
    element<HTMLInputElement>("record").disabled = running || this.busy;
  }

  private showConnection(): void {
    if (this.connecting) return; // `connect` sets the state itself
    if (this.refusal !== null) this.setConnection("refused", "refused");
    else if (this.away) this.setConnection("lost", "service away");
    else if (this.open.size === 3) this.setConnection("live", "connected");
    else this.setConnection(this.lastTracks || this.status ? "lost" : "connecting", this.status ? "reconnecting" : "connecting");
  }

  private setConnection(state: string, words: string): void {
    document.body.dataset["connection"] = state;
    const pill = element("connection");
    pill.textContent = words;
    pill.dataset["tone"] = { live: "good", lost: "bad", locked: "bad", refused: "bad" }[state] ?? "calm";
    this.showEmpty();
  }

  /** Once a second: check that the shown tracks are current, and explain why when they are not. */
  private async watch(): Promise<void> {
    this.showEmpty();
    if (this.live() || this.connecting || this.refusal !== null) return;
    document.body.dataset["tracks"] = "0";
    this.showRate(null, null);
    const reason = await this.api.notReady();
    if (this.live() || this.connecting || this.refusal !== null) return;
    if (reason) this.explain("Waiting for the engine", reason);
    else if (!this.status?.run_id) this.explain("Ready", "No run is active. Start one to see tracks.");
    else this.explain("Waiting for frames", problemOf(this.status) ?? "The run has started; the camera has sent no frame yet.");
  }

  private explain(title: string, words: string): void {
    element("empty-title").textContent = title;
    element("empty-text").textContent = words;
  }

  private showEmpty(): void {
    element("empty").classList.toggle("away", this.live());
  }

  private bind(): void {
    element("run").addEventListener("click", () => void this.toggleRun());
    element("stop-microscope").addEventListener("click", () => void this.stopMicroscope());
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-view]")) {
      button.addEventListener("click", () => this.scene.view(button.dataset["view"] as View));
    }
  }

  private async toggleRun(): Promise<void> {
    this.busy = true;
    this.showRun();
    try {
      const run = this.status?.run_id;
      if (run) await this.api.stopRun(run);
      else await this.api.startRun(element<HTMLInputElement>("record").checked);
    } catch (error) {
      this.notice(sentence(error), true);
    } finally {
      this.busy = false;
      this.showRun();
    }
  }

  private async stopMicroscope(): Promise<void> {
    try {
      const result = await this.api.stopMicroscope();
      this.notice(`${result.confirmed ? "Stopped." : "Not confirmed."} ${result.detail} ${result.remedy ?? ""}`, !result.confirmed);
    } catch (error) {
      this.notice(sentence(error), true);
    }
  }

  private notice(words: string, bad: boolean): void {
    const notice = element("notice");
    notice.textContent = words;
    notice.classList.toggle("bad", bad);
    notice.hidden = false;
    setTimeout(() => {
      if (notice.textContent === words) notice.hidden = true;
    }, NOTICE_MS);
  }
}

function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
  return whole < 3600 ? parts.slice(1).join(":") : parts.join(":");
}

new Page().start();
