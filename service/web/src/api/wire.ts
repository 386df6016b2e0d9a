// The binary messages of the live streams.
//
// b"BTHY" | u8 version | u8 kind | u16 header length | MessagePack header | columns, little-endian. The header's length
// and every column's offset are multiples of eight, so the columns are wrapped as typed arrays and nothing is copied.
import { decode } from "@msgpack/msgpack";

export const TRACKS = 1;
export const PREVIEW = 2;

const MAGIC = 0x59485442; // "BTHY" read as a little-endian number
const VERSION = 1;
const PREFIX_BYTES = 8;

const ARRAYS = {
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float32: Float32Array,
  float64: Float64Array,
} as const;

export type Column = InstanceType<(typeof ARRAYS)[keyof typeof ARRAYS]>;

export interface Header {
  epoch: string;
  sequence: number;
  captured_s: number;
  published_s: number;
  rows: number;
  columns: { name: string; type: string; offset: number }[];
  frame?: number;
  // tracks
  run?: string | null;
  t_s?: number;
  fps?: number | null;
  ledger?: Record<string, number>;
  /** Frames localized and tracked so far, whether or not they are stored. */
  tracked?: number;
  // preview
  width?: number;
  height?: number;
  scale?: number;
  low_adu?: number;
  high_adu?: number;
  saturated?: number;
  histogram?: { low_adu: number; bin_adu: number; pixels: number[] };
}

export interface Message {
  kind: number;
  header: Header;
  columns: Map<string, Column>;
}

/** Error: the bytes are not a message of this version. */
export class WireError extends Error {}

/** Read one message; the columns are views into `buffer`. */
export function decodeMessage(buffer: ArrayBuffer): Message {
  if (buffer.byteLength < PREFIX_BYTES) throw new WireError(`${buffer.byteLength} bytes are no message`);
  const prefix = new DataView(buffer, 0, PREFIX_BYTES);
  if (prefix.getUint32(0, true) !== MAGIC) throw new WireError("this is not a Bathyscope message");
  const version = prefix.getUint8(4);
  if (version !== VERSION) {
    throw new WireError(`the service speaks version ${version}, this page ${VERSION}: reload the page`);
  }
  const length = prefix.getUint16(6, true);
  const body = PREFIX_BYTES + length;
  const header = decode(new Uint8Array(buffer, PREFIX_BYTES, length)) as Header;
  const columns = new Map<string, Column>();
  for (const { name, type, offset } of header.columns) {
    const array = ARRAYS[type as keyof typeof ARRAYS];
    // A column of an unknown type is skipped; the page does not need it.
    if (array) columns.set(name, new array(buffer, body + offset, header.rows));
  }
  return { kind: prefix.getUint8(5), header, columns };
}

/** A column by name; an empty array when the message does not have it. */
export function column(message: Message, name: string): Column {
  return message.columns.get(name) ?? new Float32Array(message.header.rows);
}
