/** One stream of events: what it asks for and how far it has come. */

import { Gap } from "../events.js";
import { Filter, parsePattern } from "./matching.js";
import { Garbage, parsePosition } from "./messages.js";

export const TYPES = 100_000; // how many event types a stream keeps a position of

/** How far a stream has come in the history of one type. */
export class Mark {
  constructor(epoch, offset) {
    this.epoch = epoch;
    this.offset = offset;
  }

  get position() {
    return `${this.epoch}:${this.offset}`;
  }

  /** Return whether everything up to that position has been delivered. */
  reaches(epoch, offset) {
    return this.epoch === epoch && this.offset >= offset;
  }
}

/**
 * A stream. `marks` are its positions by type. `returning`: events before its present connection are owed to it, or a `Gap`.
 * `live`: the present connection's server has accepted it.
 */
export class Stream {
  #bare = new Set(); // the types that it has received without a position
  #covered = new Set(); // those of which is known, or was told, what the return to the present connection has cost
  marks = new Map();
  live = false;

  constructor(number, patterns, where, since) {
    if (!Array.isArray(patterns) || !patterns.length) throw new TypeError("patterns: expected a list of one or more patterns");
    if (since !== null && (typeof since !== "object" || Array.isArray(since))) throw new TypeError("since: expected an object");
    this.number = number;
    this.patterns = [...new Set(patterns)].map(parsePattern);
    const filter = where === null ? null : new Filter(where);
    const isFiltered = filter !== null && Object.keys(where).length > 0;
    this.where = isFiltered ? where : null;
    this.filter = isFiltered ? filter : null;
    this.key = isFiltered ? filter.key : null;
    this.returning = since !== null;
    for (const [name, position] of Object.entries(since ?? {})) {
      const mark = markOf(name, position);
      if (this.selects(name)) this.marks.set(name, mark);
    }
  }

  /** Return, by type, the position up to which the stream has been delivered. */
  get positions() {
    return Object.fromEntries([...this.marks].map(([name, mark]) => [name, mark.position]));
  }

  /** How many types it remembers, of each kind at most. */
  get size() {
    return Math.max(this.marks.size, this.#bare.size);
  }

  selects(type) {
    return this.patterns.some((pattern) => pattern.selects(type));
  }

  overlaps(other) {
    return this.patterns.some((mine) => other.patterns.some((theirs) => mine.overlaps(theirs)));
  }

  /** Return the gap from the present mark of the type to that position. */
  gap(type, reason, position) {
    return new Gap(type, reason, position, this.marks.get(type)?.position ?? null);
  }

  /**
   * The server has accepted the stream; return what the return has cost. `positions` and `recovered` are those of the reply
   * (null: there is no history), `sent` the `since` of the request, as a map.
   */
  accept(positions, recovered, sent) {
    const gaps = [];
    for (const [name, position] of Object.entries(positions ?? {})) {
      if (!this.selects(name)) continue;
      const [epoch, offset] = parsePosition(position);
      const mark = this.marks.get(name);
      if (mark?.reaches(epoch, offset)) continue;
      if (this.returning) {
        const isWhole = recovered.get(name) ?? false;
        if (isWhole && mark?.epoch === epoch) continue; // what follows the mark comes, or does not match
        if (!isWhole || (mark && mark.position !== sent.get(name))) gaps.push(this.gap(name, "reconnect", position));
      }
      this.marks.set(name, new Mark(epoch, offset));
    }
    if (this.returning) {
      gaps.push(...(positions === null ? this.#withoutHistory() : this.#forgotten(positions, recovered)));
      if (positions !== null && ![...sent.keys()].some((name) => recovered.get(name))) {
        // Nothing shows that it is still the same history: types that came and went with the old one are unknown.
        const wide = this.patterns.filter((pattern) => !pattern.exact);
        gaps.push(...wide.map((pattern) => this.gap(pattern.text, "reconnect", null)));
      }
    }
    this.live = true;
    return gaps;
  }

  /** Return gaps for the types of which the server has no history, or has none any more. */
  #forgotten(positions, recovered) {
    const exact = this.patterns.filter((pattern) => pattern.exact).map((pattern) => pattern.text);
    const gone = new Set([...exact, ...this.marks.keys(), ...[...this.#bare].sort()]);
    const missing = [...gone].filter((name) => !Object.hasOwn(positions, name) && !recovered.get(name));
    const gaps = missing.map((name) => this.gap(name, "reconnect", null));
    for (const name of missing) {
      this.marks.delete(name);
      this.#covered.add(name);
    }
    return gaps;
  }

  /** Return a gap for each pattern: the server keeps no history at all. */
  #withoutHistory() {
    const gaps = this.patterns.map((pattern) => this.gap(pattern.text, "reconnect", null));
    this.marks.clear();
    for (const pattern of this.patterns) this.#covered.add(pattern.text);
    return gaps;
  }

  /** Return whether an event without a position may follow others of its type that were missed; only once. */
  uncovered(type) {
    this.#bare.add(type);
    if (this.#covered.has(type)) return false;
    if (this.patterns.some((pattern) => this.#covered.has(pattern.text) && pattern.selects(type))) return false;
    this.#covered.add(type);
    return this.returning;
  }

  /** The connection has ended. */
  lost() {
    this.returning = this.returning || this.live || this.marks.size > 0;
    this.live = false;
    this.#covered.clear();
  }
}

function markOf(name, position) {
  try {
    return new Mark(...parsePosition(position));
  } catch (error) {
    if (!(error instanceof Garbage || error instanceof TypeError)) throw error;
    throw new TypeError(`since.${name}: ${JSON.stringify(position)} is no position`);
  }
}
