// Errors of the service in the form of RFC 9457, with their remedy, as sentences.

export const UNAUTHORIZED = 401;
export const FORBIDDEN = 403;

export class Problem extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly remedy: string,
    /** Kind of the problem, the last part of its URN: `role`, `host`, `conflict` and others. */
    readonly kind: string = "",
  ) {
    super(message);
  }
}

/** The service did not answer within the time that a request may take. */
export class NoAnswer extends Error {}

export function sentence(error: unknown): string {
  if (error instanceof Problem) return `${error.message} ${error.remedy}`.trim();
  if (error instanceof NoAnswer || error instanceof TypeError) {
    return "The service does not answer. Look at the computer that runs it; the page goes on by itself when it is back.";
  }
  return String(error);
}

/** The problem that a response states; `content` is its parsed body. */
export function problemOf(response: Response, content: unknown): Problem {
  const fields = (content && typeof content === "object" ? content : {}) as Record<string, unknown>;
  const detail = fields["detail"] ?? fields["problem"] ?? fields["reason"] ?? fields["title"];
  const message = typeof detail === "string" ? detail : `${response.status} ${response.statusText}`;
  const kind = typeof fields["type"] === "string" ? (fields["type"].split(":").at(-1) ?? "") : "";
  return new Problem(response.status, message, typeof fields["remedy"] === "string" ? fields["remedy"] : "", kind);
}
