/** A spool in memory. */

import { SpoolError } from "../errors.js";
import { Fifo } from "../fifo.js";
import { limitsOf, sizeOf } from "./limits.js";

/** A queue of samples, bounded by their number and size; the oldest are dropped. It belongs to one client at a time. */
export class MemorySpool {
  #limits;
  #samples = new Map(); // by id, the oldest first
  #fresh = new Fifo(); // those that `next` did not return yet; dropped ones may be among them
  #bytes = 0;
  #isOpen = false;
  dropped = 0;

  constructor(limits) {
    this.#limits = limitsOf(limits);
  }

  get length() {
    return this.#samples.size;
  }

  open() {
    if (this.#isOpen) throw new SpoolError("the spool belongs to another client");
    this.#isOpen = true;
    this.#fresh.clear();
    for (const sample of this.#samples.values()) this.#fresh.push(sample);
  }

  close() {
    this.#isOpen = false;
  }

  add(samples) {
    for (const sample of samples) {
      this.#samples.set(sample.id, sample);
      this.#fresh.push(sample);
      this.#bytes += sizeOf(sample);
    }
    const dropped = [];
    for (const [id, sample] of this.#samples) {
      if (this.#samples.size <= this.#limits.samples && this.#bytes <= this.#limits.size) break;
      this.#samples.delete(id);
      this.#bytes -= sizeOf(sample);
      dropped.push(id);
    }
    this.dropped += dropped.length;
    return dropped;
  }

  next(limit) {
    const samples = [];
    while (samples.length < limit && this.#fresh.length) {
      const sample = this.#fresh.shift();
      if (this.#samples.has(sample.id)) samples.push(sample);
    }
    return samples;
  }

  remove(ids) {
    for (const id of ids) {
      const sample = this.#samples.get(id);
      if (!sample) continue;
      this.#samples.delete(id);
      this.#bytes -= sizeOf(sample);
    }
  }
}
