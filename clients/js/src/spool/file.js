/** A spool in a file, for Node: it survives the process and a power failure. */

import { SpoolError } from "../errors.js";
import { Fifo } from "../fifo.js";
import { Journal, lineOf } from "./journal.js";
import { limitsOf, sizeOf } from "./limits.js";
import { lock, unlock } from "./lock.js";

const SLACK = 1024 * 1024; // bytes of removed samples that a file may have beside as many as those of its samples
const READ = 1024 * 1024; // bytes that `next` reads, about

/**
 * A queue of samples, bounded by their number and size; the oldest are dropped. The file belongs to one client at a time. Memory
 * holds only where each sample lies.
 */
export class FileSpool {
  #path;
  #limits;
  #journal = null;
  #samples = new Map(); // by id, the oldest first: {id, place, length, size}
  #fresh = new Fifo(); // those that `next` did not return yet; removed ones may be among them
  #bytes = 0; // of samples, as the limit counts them
  #live = 0; // bytes of their lines
  #tidyAt = 0; // bytes of the file before which tidying is not tried again
  dropped = 0;

  constructor(path, limits) {
    if (typeof path !== "string" || !path) throw new TypeError("path: expected a text");
    this.#path = path;
    this.#limits = limitsOf(limits);
  }

  get length() {
    return this.#samples.size;
  }

  /** How many lines of the file could not be read when it was opened. */
  get damaged() {
    return this.#journal?.damaged ?? 0;
  }

  /** Open the file. Throw `SpoolError` if that is not possible, or if another client has it. */
  async open() {
    if (this.#journal) throw this.#error("opened", new Error("it belongs to another client"));
    try {
      await lock(`${this.#path}.lock`);
    } catch (error) {
      throw this.#error("opened", error);
    }
    const journal = new Journal(this.#path);
    this.#samples.clear();
    this.#fresh.clear();
    this.#bytes = this.#live = this.#tidyAt = 0;
    try {
      await journal.open((value, place, length) => this.#recall(value, place, length));
    } catch (error) {
      await unlock(`${this.#path}.lock`);
      throw this.#error("opened", error);
    }
    this.#journal = journal;
    for (const sample of this.#samples.values()) this.#fresh.push(sample);
  }

  async close() {
    const journal = this.#journal;
    this.#journal = null;
    try {
      await journal.close();
    } finally {
      await unlock(`${this.#path}.lock`);
    }
  }

  /** Add samples at the end, durably; return the ids of those that were dropped for them, the oldest first. */
  async add(samples) {
    const lines = samples.map(({ id, agent, timestamp, metrics }) => lineOf(["+", id, agent, timestamp, metrics]));
    const dropped = this.#excess(samples);
    if (dropped.length) lines.push(lineOf(["-", ...dropped]));
    let place = this.#journal.size;
    try {
      await this.#journal.append(lines, true);
    } catch (error) {
      throw this.#error("written", error);
    }
    samples.forEach((sample, number) => {
      this.#fresh.push(this.#keep(sample, place, lines[number].length));
      place += lines[number].length;
    });
    for (const id of dropped) this.#forget(id);
    this.dropped += dropped.length;
    await this.#tidy();
    return dropped;
  }

  /** Return the oldest samples that were not returned before, at most `limit`; a spool that was opened begins anew. */
  async next(limit) {
    const wanted = [];
    let bytes = 0;
    while (wanted.length < limit && bytes < READ && this.#fresh.length) {
      const sample = this.#fresh.shift();
      if (this.#samples.get(sample.id) !== sample) continue;
      wanted.push(sample);
      bytes += sample.length;
    }
    let values;
    try {
      values = await this.#journal.values(wanted);
    } catch (error) {
      const later = [...this.#fresh];
      this.#fresh.clear();
      for (const sample of [...wanted, ...later]) this.#fresh.push(sample);
      throw this.#error("read", error);
    }
    const samples = [];
    for (const [number, value] of values.entries()) {
      if (value) samples.push({ id: value[1], agent: value[2], timestamp: value[3], metrics: value[4] });
      else this.#forget(wanted[number].id);
    }
    return samples;
  }

  /** Remove samples; unknown ids are ignored. After a power failure some may be there again: the server knows their ids. */
  async remove(ids) {
    const known = ids.filter((id) => this.#samples.has(id));
    if (!known.length) return;
    try {
      // To cut the file needs no room on the disk.
      if (known.length === this.#samples.size) await this.#journal.clear();
      else await this.#journal.append([lineOf(["-", ...known])], false);
    } catch (error) {
      throw this.#error("written", error);
    }
    for (const id of known) this.#forget(id);
    await this.#tidy();
  }

  /** Take a line of the file. */
  #recall(value, place, length) {
    const [what, ...others] = Array.isArray(value) ? value : [];
    if (what === "+") {
      const [id, agent, timestamp, metrics] = others;
      this.#keep({ id, agent, timestamp, metrics }, place, length);
    } else if (what === "-") {
      for (const id of others) this.#forget(id);
    }
  }

  #keep(sample, place, length) {
    this.#forget(sample.id);
    const kept = { id: sample.id, place, length, size: sizeOf(sample) };
    this.#samples.set(kept.id, kept);
    this.#bytes += kept.size;
    this.#live += length;
    return kept;
  }

  #forget(id) {
    const kept = this.#samples.get(id);
    if (!kept) return;
    this.#samples.delete(id);
    this.#bytes -= kept.size;
    this.#live -= kept.length;
  }

  /** Return the ids of the oldest that are too many with these. */
  #excess(samples) {
    const added = samples.map((sample) => ({ id: sample.id, size: sizeOf(sample) }));
    let count = this.#samples.size + added.length;
    let bytes = added.reduce((sum, { size }) => sum + size, this.#bytes);
    const dropped = [];
    for (const oldest of [this.#samples.values(), added]) {
      for (const { id, size } of oldest) {
        if (count <= this.#limits.samples && bytes <= this.#limits.size) return dropped;
        dropped.push(id);
        count--;
        bytes -= size;
      }
    }
    return dropped;
  }

  /** Free the disk of removed samples, now and then. If that fails, the file is longer than it needs to be, until the next time. */
  async #tidy() {
    const journal = this.#journal;
    if (journal.size < this.#tidyAt || journal.size - this.#live < this.#live + SLACK) return;
    try {
      const kept = [...this.#samples.values()];
      const places = await journal.compact(kept);
      kept.forEach((sample, number) => (sample.place = places[number]));
      this.#tidyAt = 0;
    } catch {
      this.#tidyAt = journal.size + SLACK;
    }
  }

  #error(what, cause) {
    return new SpoolError(`the spool ${this.#path} cannot be ${what}: ${cause.message}`, { cause });
  }
}
