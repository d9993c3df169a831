/** Samples on their way into the spool, and the news of them. */

import { SampleDropped, SpoolError } from "./errors.js";

const WAITING = 10_000; // samples that wait for the spool; more let their senders wait
const AGAIN = 5; // seconds until a spool that could not be read is tried again

/** A promise with its ends, which nobody has to look at. */
function outcome() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => {});
  return made;
}

/**
 * Call the spool, once at a time. `listener` has `spooled()`: there is something for `batch`; `batch(samples)`; and
 * `report(error)`: the spool has failed.
 */
export class Telemetry {
  #spool;
  #listener;
  #adding = []; // {sample, waiting}
  #outcomes = new Map(); // by id, whether the sample was stored
  #removed = []; // [ids, error] by the server's word, but still in the spool
  #calls = Promise.resolve(); // of the spool, in a row
  #isOpen = false;
  #end = null; // why nothing is taken any more
  #isFlushing = false;
  #isRemoving = false;
  #moved = outcome();

  constructor(spool, listener) {
    this.#spool = spool;
    this.#listener = listener;
  }

  /** Open the spool. If that is not possible, report it, and refuse all samples. */
  async open() {
    const listener = {
      more: () => this.#more(),
      settled: (ids, error) => ids.forEach((id) => this.#tell(id, error)),
      failed: (error) => this.#listener.report(error),
    };
    try {
      await this.#call(() => this.#spool.open(listener));
    } catch (error) {
      this.#listener.report(error);
      this.#refuse(error);
      return;
    }
    this.#isOpen = true;
    void this.#flush();
    if (this.#spool.length) this.#more();
  }

  /**
   * Return `{id, stored}` once the sample is in the spool; if that is not open, once it is. Throw `SpoolError` if it cannot be
   * written.
   */
  async add(sample) {
    while (this.#adding.length >= WAITING) await this.#moved.promise;
    if (this.#end) throw this.#end;
    const waiting = outcome();
    this.#adding.push({ sample, waiting });
    void this.#flush();
    return waiting.promise;
  }

  async fetch(limit) {
    if (this.#end) return;
    try {
      const samples = await this.#call(() => this.#spool.next(limit));
      if (!this.#end) this.#listener.batch(samples);
    } catch (error) {
      this.#listener.report(error);
      setTimeout(() => this.fetch(limit), AGAIN * 1000).unref?.();
    }
  }

  /** The server has stored these samples or, with an error, never will. */
  settle(ids, error) {
    for (const id of ids) this.#tell(id, error);
    this.#removed.push([ids, error]);
    void this.#remove();
  }

  /** Return once the server has everything. */
  async emptied() {
    while (!this.#end && (this.#adding.length || this.#isFlushing || this.#spool.length)) await this.#moved.promise;
  }

  /** Close the spool; what waits is told the error. */
  async close(error) {
    this.#refuse(this.#end ?? error);
    await this.#calls;
    for (const id of [...this.#outcomes.keys()]) this.#tell(id, error);
    if (this.#isOpen) await this.#call(() => this.#spool.close()).catch((failure) => this.#listener.report(failure));
  }

  #refuse(error) {
    this.#end = error;
    for (const { waiting } of this.#adding.splice(0)) waiting.reject(error);
    this.#move();
  }

  /** Add what waits, in one go; what comes meanwhile goes into the next. */
  async #flush() {
    if (!this.#isOpen || this.#isFlushing) return;
    this.#isFlushing = true;
    await null; // all that is given in this turn goes together
    while (this.#adding.length) await this.#add(this.#adding.splice(0));
    this.#isFlushing = false;
    this.#move();
  }

  async #add(batch) {
    const samples = batch.map(({ sample }) => sample);
    // Before they are in the spool, as another tab may tell their end at any time after.
    const outcomes = samples.map(() => outcome());
    samples.forEach(({ id }, place) => this.#outcomes.set(id, outcomes[place]));
    try {
      const dropped = await this.#call(() => this.#spool.add(samples));
      batch.forEach(({ waiting }, place) => waiting.resolve({ id: samples[place].id, stored: outcomes[place].promise }));
      for (const id of dropped) this.#tell(id, new SampleDropped("the spool was full"));
      this.#more();
    } catch (error) {
      for (const { id } of samples) this.#outcomes.delete(id);
      for (const { waiting } of batch) waiting.reject(error);
    }
  }

  /** Remove from the spool what the server has. If that fails it stays for the next time: the server knows the ids. */
  async #remove() {
    if (this.#isRemoving) return;
    this.#isRemoving = true;
    try {
      while (this.#removed.length) {
        const [ids, error] = this.#removed[0];
        await this.#call(() => this.#spool.remove(ids, error));
        this.#removed.shift();
        this.#move();
      }
    } catch (failure) {
      this.#listener.report(failure);
    }
    this.#isRemoving = false;
  }

  #more() {
    this.#move();
    if (!this.#end) this.#listener.spooled();
  }

  #tell(id, error) {
    const made = this.#outcomes.get(id);
    this.#outcomes.delete(id);
    if (error) made?.reject(error);
    else made?.resolve();
  }

  #move() {
    this.#moved.resolve();
    this.#moved = outcome();
  }

  /** Call the spool after the calls before. Throw `SpoolError`, whatever it throws. */
  #call(call) {
    const done = this.#calls.then(call).catch((error) => {
      throw error instanceof SpoolError ? error : new SpoolError(`the spool failed: ${error?.message}`, { cause: error });
    });
    this.#calls = done.catch(() => {});
    return done;
  }
}
