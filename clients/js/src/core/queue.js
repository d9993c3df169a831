/** The bounded queue between a stream and its consumer. */

import { Gap } from "../events.js";
import { before } from "./messages.js";

export const LIMIT = 10_000;

/**
 * The items that were delivered to a stream and not taken yet. While it is full, new items are dropped; a `Gap` for each of
 * their types follows the queued items. It is live again as soon as there is room.
 */
export class Queue {
  #items = [];
  #first = 0; // the index of the oldest item: what was taken is cut off now and then
  #lost = new Map();
  #limit;
  dropped = 0;

  constructor(limit = LIMIT) {
    this.#limit = limit;
  }

  get length() {
    return this.#items.length - this.#first + this.#lost.size;
  }

  /** Add an item, or drop it if there is no room. */
  put(item) {
    if (this.#items.length - this.#first >= this.#limit) {
      this.#drop(item);
      return;
    }
    this.#tell();
    this.#items.push(item);
  }

  /** Remove and return the oldest item; null if there is none. */
  take() {
    if (this.#first === this.#items.length) this.#tell();
    if (this.#first === this.#items.length) return null;
    const item = this.#items[this.#first];
    this.#items[this.#first++] = undefined;
    if (this.#first * 2 > this.#items.length) {
      this.#items.splice(0, this.#first);
      this.#first = 0;
    }
    return item;
  }

  /**
   * Return, by type, the position up to which the consumer has taken everything. `delivered` are the stream's positions in the
   * core, `Core.positions`, which are ahead by what is queued here.
   */
  positions(delivered) {
    const positions = new Map(Object.entries(delivered));
    const seen = new Set();
    for (const item of [...this.#items.slice(this.#first), ...this.#lost.values()]) {
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
    if (this.#lost.size) {
      this.#items.push(...this.#lost.values());
      this.#lost.clear();
    }
  }
}

/** Return the position at which a stream is before this item. */
function sinceOf(item) {
  if (item instanceof Gap) return item.since;
  return item.position === null ? null : before(item.position);
}
