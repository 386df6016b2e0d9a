// Tracks as text for other programs. Values have four significant decimals of a micrometre, more than any σ supports.
import type { Track } from "../tracks/recorded";

export interface TableFormat {
  name: string;
  file: string;
  /** How to open the file, in one line. */
  open: string;
  text(tracks: readonly Track[]): string;
}

const um = (value: number): string => value.toFixed(4);

function rows(tracks: readonly Track[], header: string, line: (track: Track, at: number) => string): string {
  const lines = [header];
  for (const track of tracks) for (let at = track.from; at < track.to; at++) lines.push(line(track, at));
  return `${lines.join("\n")}\n`;
}

const COLUMNS = ["track_id", "frame", "t_s", "x_um", "y_um", "z_um", "vx_um_s", "vy_um_s", "vz_um_s", "sigma_x_um", "sigma_y_um", "sigma_z_um", "observed"];

function all(track: Track, at: number): string[] {
  const values = [track.t, track.x, track.y, track.z, track.vx, track.vy, track.vz, track.sx, track.sy, track.sz].map((column) => um(column[at]!));
  return [String(track.id), String(track.frame[at]), ...values, String(track.observed[at])];
}

/** Its tracks are numbered without gaps, from 1, and its time from 0. */
function forInTracktive(tracks: readonly Track[]): string {
  const numbers = new Map(tracks.map(({ id }, place) => [id, place + 1]));
  const first = tracks.reduce((least, { frame }) => Math.min(least, frame[0] ?? least), Infinity);
  return rows(tracks, "track_id,t,z,y,x,parent_track_id", (track, at) => [numbers.get(track.id), track.frame[at]! - first, um(track.z[at]!), um(track.y[at]!), um(track.x[at]!), -1].join(","));
}

export const TABLES: readonly TableFormat[] = [
  { name: "CSV", file: "tracks.csv", open: "Any program that reads tables: pandas.read_csv, R read.csv, Excel with English settings.",
    text: (tracks) => rows(tracks, COLUMNS.join(","), (track, at) => all(track, at).join(",")) },
  { name: "Excel CSV, comma decimals", file: "tracks-excel.csv", open: "Double click where Excel or LibreOffice uses decimal commas (German, French and others).",
    text: (tracks) => `\ufeff${rows(tracks, COLUMNS.join(";"), (track, at) => all(track, at).map((value) => value.replace(".", ",")).join(";"))}` },
  { name: "TrackMate CSV", file: "tracks-trackmate.csv", open: "Fiji: Plugins, Tracking, TrackMate CSV importer; the columns have its names.",
    text: (tracks) => rows(tracks, "TRACK_ID,FRAME,POSITION_X,POSITION_Y,POSITION_Z,POSITION_T", (track, at) => [track.id, track.frame[at], um(track.x[at]!), um(track.y[at]!), um(track.z[at]!), um(track.t[at]!)].join(",")) },
  { name: "napari tracks", file: "tracks-napari.csv", open: "napari: viewer.add_tracks(pandas.read_csv(FILE).iloc[:, :5]). Places in µm, time in frames.",
    text: (tracks) => rows(tracks, "track_id,t,z,y,x,sigma_z_um,observed", (track, at) => [track.id, track.frame[at], um(track.z[at]!), um(track.y[at]!), um(track.x[at]!), um(track.sz[at]!), track.observed[at]].join(",")) },
  { name: "inTRACKtive CSV", file: "tracks-intracktive.csv", open: "inTRACKtive: convert_tracks_csv_to_sparse_zarr.py FILE, then open the result in its viewer. Tracks count from 1, t from 0.",
    text: forInTracktive },
]; // prettier-ignore
