/** The bounded queue between a stream and its consumer. */

import { Gap } from "../events.js";
import { Fifo } from "../fifo.js";
import { before } from "./messages.js";

export const LIMIT = 10_000;

/**
 * The items that were delivered to a stream and not taken yet. While it is full, new items are dropped; a `Gap` for each of
 * their types follows the queued items. It is live again as soon as there is room.
 */
export class Queue {
  #items = new Fifo();
  #lost = new Map(); // the gap of each type
  #limit;
  dropped = 0;

  constructor(limit = LIMIT) {
    this.#limit = limit;
  }

  get length() {
    return this.#items.length + this.#lost.size;
  }

  /** Add an item, or drop it if there is no room. */
  put(item) {
    if (this.#items.length >= this.#limit) {
      this.#drop(item);
    } else {
      this.#tell();
      this.#items.push(item);
    }
  }

  /** Remove and return the oldest item; undefined if there is none. */
  take() {
    if (!this.#items.length) this.#tell();
    return this.#items.shift();
  }

  /**
   * Return, by type, the position up to which the consumer has taken everything. `delivered` are the stream's positions in the
   * core, `Core.positions`, which are ahead by what is queued here.
   */
  positions(delivered) {
    const positions = new Map(Object.entries(delivered));
    const seen = new Set();
    for (const item of [...this.#items, ...this.#lost.values()]) {
      if (seen.has(item.type) || !(item instanceof Gap || item.position !== null)) continue;
      seen.add(item.type);
      const position = sinceOf(item);
      if (position === null) positions.delete(item.type);
      else positions.set(item.type, position);
    }
    return Object.fromEntries(positions);
  }

  #drop(item) {
    this.dropped++;
    const lost = this.#lost.get(item.type);
    this.#lost.set(item.type, new Gap(item.type, "overflow", item.position, lost ? lost.since : sinceOf(item)));
  }

  #tell() {
    for (const gap of this.#lost.values()) this.#items.push(gap);
    this.#lost.clear();
  }
}

/** Return the position at which a stream is before this item; null if it is not known. */
function sinceOf(item) {
  if (item instanceof Gap) return item.since;
  return item.position === null ? null : before(item.position);
}
