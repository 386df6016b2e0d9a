// Statements with files, names of models and of files.
import { describe, expect, test } from "vitest";
import { isDigest, statementOf } from "../src/calibrate/sweep_files";
import { fileName } from "../src/parts/words";

function form(values: Record<string, string>): FormData {
  const made = new FormData();
  for (const [name, value] of Object.entries(values)) made.append(name, value);
  return made;
}

describe("the statement with the files of a sweep", () => {
  test("fields that are left empty are taken from the file", () => {
    expect(statementOf(form({ name: " beads ", pixel_size_um: "", z_step_um: " ", low: "", high: "" }))).toEqual({ name: "beads" });
  });
  test("numbers are numbers, and zero is one", () => {
    expect(statementOf(form({ name: "", pixel_size_um: "0.65", z_step_um: "1", low: "0", high: "40" }))).toEqual({ name: "", z_range_um: [0, 40], pixel_size_um: 0.65, z_step_um: 1 });
  });
  test("a range with one end is refused", () => expect(() => statementOf(form({ low: "1" }))).toThrow("only one end"));
});

test.each([["a".repeat(64), true], ["a".repeat(63), false], ["g".repeat(64), false], ["", false]])("a digest has 64 hexadecimal digits: %s", (text, good) => expect(isDigest(text)).toBe(good));

test.each([["beads in water", "beads-in-water"], ["Zellen µ/10 ", "Zellen-µ-10"], ["???", "file"]])("the name of a file from %s", (text, name) => expect(fileName(text)).toBe(name));
