// A WebSocket that comes back: it waits longer after each failure, and starts over once a message has arrived.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

export interface SocketEvents {
  message(data: ArrayBuffer | string): void;
  connected(open: boolean): void;
}

export class LiveSocket {
  private socket: WebSocket | null = null;
  private wait = FIRST_WAIT_MS;
  private timer = 0;
  private stopped = false;

  constructor(
    private readonly url: URL,
    private readonly accessKey: () => string | null,
    private readonly events: SocketEvents,
  ) {}

  open(): void {
    this.stopped = false;
    clearTimeout(this.timer);
    this.socket?.close();
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      const key = this.accessKey();
      if (key) socket.send(JSON.stringify({ access_key: key }));
      this.events.connected(true);
    };
    socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
      this.wait = FIRST_WAIT_MS;
      this.events.message(event.data);
    };
    socket.onclose = () => {
      if (socket !== this.socket) return;
      this.events.connected(false);
      if (this.stopped) return;
      this.timer = window.setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
    };
  }

  close(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }
}
