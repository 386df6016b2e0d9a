// The newest camera frame, with a ring around every track. The image and the tracks arrive in separate messages, so
// their times may differ by a tenth of a second.
import { cssColour } from "./depth";
import { column, type Message } from "./stream";
import type { Tracks } from "./tracks";
import type { Volume } from "./volume";

const RING_PX = 8;

export class Preview {
  private readonly context: CanvasRenderingContext2D;
  private readonly frame = document.createElement("canvas");
  private readonly frameContext = this.frame.getContext("2d")!;

  constructor(private readonly canvas: HTMLCanvasElement) {
    this.context = canvas.getContext("2d")!;
  }

  /** Show a preview message; return false when it contains no image. */
  show(message: Message): boolean {
    const { width = 0, height = 0 } = message.header;
    const grey = column(message, "pixels");
    if (width * height === 0 || grey.length !== width * height) return false;
    if (this.frame.width !== width || this.frame.height !== height) {
      this.frame.width = width;
      this.frame.height = height;
    }
    const picture = this.frameContext.createImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    for (let i = 0; i < grey.length; i++) {
      const value = grey[i]!;
      pixels[i] = 0xff000000 | (value << 16) | (value << 8) | value;
    }
    this.frameContext.putImageData(picture, 0, 0);
    return true;
  }

  draw(tracks: Tracks, volume: Volume): void {
    if (this.frame.width === 0) return;
    const ratio = Math.min(devicePixelRatio, 2);
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round((width * this.frame.height) / this.frame.width);
    if (width === 0) return;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.context.drawImage(this.frame, 0, 0, width, height);
    this.context.lineWidth = 1.5 * ratio;
    const { x, y, z } = volume;
    for (let row = 0; row < tracks.count; row++) {
      const px = ((tracks.x[row]! - x[0]) / (x[1] - x[0])) * width;
      const py = ((tracks.y[row]! - y[0]) / (y[1] - y[0])) * height;
      this.context.strokeStyle = cssColour((tracks.z[row]! - z[0]) / (z[1] - z[0]));
      this.context.setLineDash(tracks.coasting(row) ? [3 * ratio, 3 * ratio] : []);
      this.context.beginPath();
      this.context.arc(px, py, RING_PX * ratio, 0, 2 * Math.PI);
      this.context.stroke();
    }
  }
}
