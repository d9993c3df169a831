/** Which streams an event goes to, and whether the server sends all events of its type. */

import { parsePattern } from "./matching.js";

const CACHED = 10_000; // event types

/**
 * What the server may send on the present connection: it was asked for, and its end was not confirmed. A pair is a pattern and
 * the key of a filter; null: no filter.
 */
export class Routes {
  #keys = new Map(); // by pattern, the keys of its filters
  #cache = new Map();

  add(pairs) {
    this.#cache.clear();
    for (const [pattern, key] of pairs) {
      if (!this.#keys.has(pattern)) this.#keys.set(pattern, []);
      this.#keys.get(pattern).push(key);
    }
  }

  remove(pairs) {
    this.#cache.clear();
    for (const [pattern, key] of pairs) {
      const keys = this.#keys.get(pattern) ?? [];
      const place = keys.indexOf(key);
      if (place >= 0) keys.splice(place, 1);
      if (!keys.length) this.#keys.delete(pattern);
    }
  }

  /** Return all pairs with one of these patterns. */
  of(patterns) {
    return patterns.flatMap((pattern) => (this.#keys.get(pattern) ?? []).map((key) => [pattern, key]));
  }

  clear() {
    this.#keys.clear();
    this.#cache.clear();
  }

  /** The streams have changed. */
  changed() {
    this.#cache.clear();
  }

  /**
   * Return the way of an event type. `targets` are the streams with the filter to apply here; null if the server has applied
   * it, or there is none. `complete`: the server sends every event of the type, so that a skipped offset is a loss.
   */
  find(type, streams) {
    let route = this.#cache.get(type);
    if (!route) {
      if (this.#cache.size >= CACHED) this.#cache.clear();
      route = this.#make(type, streams);
      this.#cache.set(type, route);
    }
    return route;
  }

  #make(type, streams) {
    const keys = new Set();
    for (const [text, known] of this.#keys) {
      if (parsePattern(text).selects(type)) for (const key of known) keys.add(key);
    }
    const targets = [];
    for (const stream of streams) {
      // A stream whose filter alone was asked for receives nothing else of this type.
      const isApplied = keys.size === 1 && keys.has(stream.key);
      if (stream.selects(type)) targets.push({ stream, filter: isApplied ? null : stream.filter });
    }
    return { targets, complete: keys.has(null) };
  }
}
