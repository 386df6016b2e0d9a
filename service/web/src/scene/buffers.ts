// Buffers of the graphics card whose columns are rewritten with every drawing. They double in size when they are full.
import { BufferAttribute, DynamicDrawUsage, InstancedBufferAttribute, type BufferGeometry, type InstancedBufferGeometry } from "three";

export class Columns<Name extends string> {
  private room = 0;

  constructor(
    private readonly geometry: BufferGeometry | InstancedBufferGeometry,
    private readonly widths: Record<Name, number>,
    private readonly instanced: boolean,
  ) {
    this.arrays(1);
    this.show(0);
  }

  /** Arrays by name, each for at least `rows` rows. */
  arrays(rows: number): Record<Name, Float32Array> {
    if (rows > this.room) {
      this.room = Math.max(256, 2 ** Math.ceil(Math.log2(rows)));
      // An attribute of a new size needs a new buffer on the graphics card.
      this.geometry.dispose();
      for (const name of this.names()) {
        const values = new Float32Array(this.room * this.widths[name]);
        const attribute = this.instanced ? new InstancedBufferAttribute(values, this.widths[name]) : new BufferAttribute(values, this.widths[name]);
        this.geometry.setAttribute(name, attribute.setUsage(DynamicDrawUsage));
      }
    }
    return Object.fromEntries(this.names().map((name) => [name, this.geometry.getAttribute(name).array])) as Record<Name, Float32Array>;
  }

  show(rows: number): void {
    if (this.instanced) (this.geometry as InstancedBufferGeometry).instanceCount = rows;
    else this.geometry.setDrawRange(0, rows);
    for (const name of this.names()) {
      const attribute = this.geometry.getAttribute(name) as BufferAttribute;
      attribute.clearUpdateRanges();
      attribute.addUpdateRange(0, rows * this.widths[name]);
      attribute.needsUpdate = true;
    }
  }

  private names(): Name[] {
    return Object.keys(this.widths) as Name[];
  }
}
