// Numbers, times and sizes in words.

export function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
  return whole < 3600 ? parts.slice(1).join(":") : parts.join(":");
}

/** A value to the digit that its uncertainty supports, with it: 12.34 ± 0.05. */
export function withSigma(value: number, sigma: number): string {
  const digits = digitsOf(sigma);
  return Number.isFinite(sigma) && sigma > 0 ? `${value.toFixed(digits)} ± ${sigma.toFixed(digits)}` : value.toFixed(2);
}

function digitsOf(sigma: number): number {
  return Number.isFinite(sigma) && sigma > 0 ? Math.min(4, Math.max(0, -Math.floor(Math.log10(sigma)))) : 2;
}

export function count(value: number | null | undefined): string {
  return value == null ? "–" : value.toLocaleString("en");
}

/** A share as people read it: never 0 % of something that is there, nor 100 % of something that lacks a part. */
export function percent(part: number, whole: number): string {
  const share = (100 * part) / Math.max(1, whole);
  if (part > 0 && share < 1) return "< 1 %";
  if (part < whole && share > 99) return "> 99 %";
  return `${Math.round(share)} %`;
}

export function figure(value: number | null | undefined, digits = 3): string {
  if (value == null || !Number.isFinite(value)) return "–";
  return Math.abs(value) >= 10 ** digits ? value.toFixed(0) : String(+value.toPrecision(digits));
}

export function moment(iso: string | null | undefined): string {
  if (!iso) return "–";
  const at = new Date(iso);
  const day = at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: at.getFullYear() === new Date().getFullYear() ? undefined : "numeric" });
  return `${day}, ${at.toLocaleTimeString("en-GB")}`;
}

export function minutes(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** Letters and digits of a text, for the name of a file. */
export function fileName(text: string): string {
  return text.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^-+|-+$/g, "") || "file";
}

/** Save text or bytes as a file of the user. */
export function save(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 30_000);
}
