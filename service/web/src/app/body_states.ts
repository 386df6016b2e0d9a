// The states of the page as attributes of its body, for style sheets and for tests.
import { instrument, pictures, shown } from "../state/app";
import { phaseOf } from "../state/instrument";

const LINKS = { open: "live", connecting: "connecting", lost: "lost", locked: "locked", refused: "refused" } as const;

export function bodyStates(): void {
  const body = document.body.dataset;
  const put = (name: string, value: string): void => {
    if (body[name] !== value) body[name] = value;
  };
  instrument.listen(() => {
    const state = instrument.get();
    put("connection", LINKS[state.link]);
    put("phase", phaseOf(state));
    put("run", state.run ?? "");
    if (state.epoch) put("epoch", state.epoch);
  });
  let last: unknown = null;
  shown.listen(() => {
    const { moment, current } = shown.get();
    put("tracks", current ? String(moment.tracks.count) : "0");
    put("frame", String(moment.tracks.frame));
    if (moment.picture && moment.picture !== last) {
      last = moment.picture;
      put("previews", String(++pictures.count));
      put("apart", String(moment.apart ?? ""));
    }
  });
}
