/** Points in time, the earliest first. */

/** Return the earliest of these times, of which some may be null; null if there is none. */
export function earliest(times) {
  let first = null;
  for (const time of times) if (time !== null && (first === null || time < first)) first = time;
  return first;
}

/** Numbers with a time each: a binary heap. A number may be in it more than once. */
export class Agenda {
  #entries = []; // [time, number]

  get size() {
    return this.#entries.length;
  }

  /** The entry with the earliest time; undefined if there is none. */
  get first() {
    return this.#entries[0];
  }

  add(time, number) {
    const entries = this.#entries;
    let place = entries.length;
    entries.push([time, number]);
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (entries[parent][0] <= time) break;
      [entries[parent], entries[place]] = [entries[place], entries[parent]];
      place = parent;
    }
  }

  /** Remove the first entry and return its number. */
  pop() {
    const entries = this.#entries;
    const [, number] = entries[0];
    const last = entries.pop();
    if (entries.length) {
      entries[0] = last;
      for (let place = 0, child; (child = 2 * place + 1) < entries.length; place = child) {
        if (child + 1 < entries.length && entries[child + 1][0] < entries[child][0]) child++;
        if (last[0] <= entries[child][0]) break;
        [entries[place], entries[child]] = [entries[child], entries[place]];
      }
    }
    return number;
  }

  /** Keep only the numbers that are wanted. */
  keep(wanted) {
    const entries = this.#entries.filter(([, number]) => wanted(number));
    this.#entries = [];
    for (const [time, number] of entries) this.add(time, number);
  }
}
