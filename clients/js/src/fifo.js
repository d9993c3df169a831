/** A queue of values, first in, first out, whose ends both take constant time. */
export class Fifo {
  #items = [];
  #first = 0; // the index of the oldest: what was taken is cut off now and then

  get length() {
    return this.#items.length - this.#first;
  }

  push(item) {
    this.#items.push(item);
  }

  /** Remove and return the oldest; undefined if there is none. */
  shift() {
    if (this.#first === this.#items.length) return undefined;
    const item = this.#items[this.#first];
    this.#items[this.#first++] = undefined;
    if (this.#first * 2 > this.#items.length) {
      this.#items.splice(0, this.#first);
      this.#first = 0;
    }
    return item;
  }

  clear() {
    this.#items = [];
    this.#first = 0;
  }

  /** The items, the oldest first. */
  [Symbol.iterator]() {
    return this.#items.slice(this.#first).values();
  }
}
