// A WebSocket that reconnects. The pause grows with each failure, and is reset when a message arrives. When the service
// has closed the socket for a permanent reason, the socket stays closed and reports the reason.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

/** Close code: the first message did not contain the access key. */
export const KEY_REFUSED = 4401;
const FIRST_OWN_CODE = 4000;
/** Close codes of permanent errors (RFC 6455, section 7.4.1). Others, such as 1006 and 1011 to 1013, are temporary. */
const LASTING = new Set([1002, 1003, 1007, 1008, 1009, 1010]);

function lasts(code: number): boolean {
  return LASTING.has(code) || code >= FIRST_OWN_CODE;
}

export interface SocketEvents {
  message(data: ArrayBuffer | string): void;
  connected(open: boolean): void;
  /** Called when the service has closed the socket permanently. */
  refused(code: number, reason: string): void;
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
    socket.onclose = ({ code, reason }) => {
      if (socket !== this.socket) return;
      this.events.connected(false);
      if (this.stopped) return;
      if (lasts(code)) {
        this.stopped = true;
        this.events.refused(code, reason);
        return;
      }
      this.timer = window.setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
    };
  }

  close(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null; // its close event is then ignored
    socket?.close();
  }
}
