// What stands in the place of the picture while there is none, and the button that shows the camera.
import type { ComponentChild } from "preact";
import { instrument } from "../state/app";
import { useStore } from "../state/store";

export function ShowCamera(): ComponentChild {
  const words = useStore(instrument, ({ status, run }) => (run ? "The first frame comes in a moment." : status?.ready ? "The camera is shown while a run or a sweep is on." : "No camera picture."));
  return <p>{words}</p>;
}
