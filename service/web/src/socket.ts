// A WebSocket that comes back: it waits longer after each failure, and starts over once a message has arrived. Where the
// service has closed it for a reason that another attempt would meet again, it stays closed and says so.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

/** The first message did not bear the access key. */
export const KEY_REFUSED = 4401;
const FIRST_OWN_CODE = 4000;
/** Errors of the protocol and of its messages (RFC 6455, section 7.4.1); 1006, 1011 to 1013 and the like pass. */
const LASTING = new Set([1002, 1003, 1007, 1008, 1009, 1010]);

function lasts(code: number): boolean {
  return LASTING.has(code) || code >= FIRST_OWN_CODE;
}

export interface SocketEvents {
  message(data: ArrayBuffer | string): void;
  connected(open: boolean): void;
  /** The service has closed the socket for good. */
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
    this.socket = null; // its farewell is nobody's news
    socket?.close();
  }
}
