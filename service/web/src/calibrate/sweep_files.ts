// What a person states with the files of a sweep.
import type { SweepStatement } from "../api/client";

export function isDigest(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}

/** The statement of the fields that are filled; a range of depths needs both ends. */
export function statementOf(form: FormData): SweepStatement {
  const number = (name: string): number | null => {
    const text = String(form.get(name) ?? "").trim();
    return text === "" ? null : Number(text);
  };
  const [low, high, pixel, step] = [number("low"), number("high"), number("pixel_size_um"), number("z_step_um")];
  if ((low === null) !== (high === null)) throw new RangeError("The range of depths has only one end. Give both, or none.");
  return {
    name: String(form.get("name") ?? "").trim(),
    ...(low === null || high === null ? {} : { z_range_um: [low, high] }),
    ...(pixel === null ? {} : { pixel_size_um: pixel }),
    ...(step === null ? {} : { z_step_um: step }),
  };
}
