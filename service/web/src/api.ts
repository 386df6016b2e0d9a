// HTTP requests with the access key. Errors contain the sentences of the service.

import type { EventItem } from "./events";

const KEY = "bathyscope-access-key";

export const UNAUTHORIZED = 401;
export const FORBIDDEN = 403;

export interface StopAnswer {
  confirmed: boolean;
  detail: string;
  remedy: string | null;
}

/** A problem in the form of RFC 9457, with the service's remedy. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly remedy: string,
  ) {
    super(message);
  }
}

/** An address of this service. Behind a proxy it has the proxy's prefix. */
export function address(path: string): URL {
  return new URL(path, document.baseURI);
}

export function socketAddress(path: string): URL {
  const url = address(path);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

export class Api {
  /** Called when the service refuses this page, because the key or the host name is wrong. A retry does not help. */
  onRefusal: (problem: Problem) => void = () => undefined;

  get key(): string | null {
    return sessionStorage.getItem(KEY);
  }

  set key(value: string | null) {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  }

  /** The state of the service. The caller handles a refusal. */
  system(): Promise<Record<string, unknown>> {
    return this.send("GET", "api/v1/system");
  }

  async events(): Promise<EventItem[]> {
    return (await this.request<{ items: EventItem[] }>("GET", "api/v1/events?limit=6")).items;
  }

  startRun(record: boolean): Promise<unknown> {
    return this.request("POST", "api/v1/runs", { record });
  }

  stopRun(id: string): Promise<unknown> {
    return this.request("POST", `api/v1/runs/${encodeURIComponent(id)}/stop`);
  }

  stopMicroscope(): Promise<StopAnswer> {
    return this.request("POST", "api/v1/microscope/stop");
  }

  /** Why the instrument is not ready; null when it is ready. */
  async notReady(): Promise<string | null> {
    try {
      await this.request("GET", "readyz");
      return null;
    } catch (error) {
      if (error instanceof Problem) return sentence(error);
      return "The service does not respond.";
    }
  }

  private async request<Content>(method: string, path: string, body?: unknown): Promise<Content> {
    try {
      return await this.send<Content>(method, path, body);
    } catch (error) {
      if (error instanceof Problem && (error.status === UNAUTHORIZED || error.status === FORBIDDEN)) this.onRefusal(error);
      throw error;
    }
  }

  private async send<Content>(method: string, path: string, body?: unknown): Promise<Content> {
    const headers: Record<string, string> = { Accept: "application/json, application/problem+json" };
    if (this.key) headers["Authorization"] = `Bearer ${this.key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const init: RequestInit = { method, headers, cache: "no-store" };
    if (body !== undefined) init.body = JSON.stringify(body);
    const response = await fetch(address(path), init);
    const text = await response.text();
    const content = parse(text);
    if (!response.ok) throw problem(response, content);
    return content as Content;
  }
}

export function sentence(error: unknown): string {
  if (error instanceof Problem) return `${error.message} ${error.remedy}`.trim();
  return error instanceof TypeError ? "The service does not respond." : String(error);
}

function parse(text: string): unknown {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return text;
  }
}

function problem(response: Response, content: unknown): Problem {
  const fields = (content && typeof content === "object" ? content : {}) as Record<string, unknown>;
  const detail = fields["detail"] ?? fields["problem"] ?? fields["reason"] ?? fields["title"];
  const message = typeof detail === "string" ? detail : `${response.status} ${response.statusText}`;
  return new Problem(response.status, message, typeof fields["remedy"] === "string" ? fields["remedy"] : "");
}
