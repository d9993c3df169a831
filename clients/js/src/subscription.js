/** A stream of events as an asynchronous iterator. */

import { Queue } from "./core/queue.js";
import { Fifo } from "./fifo.js";

/**
 * Returned by `Nexus.subscribe`; gives each `Event` and `Gap` to `for await`.
 *
 * The iteration ends when the subscription or the client is closed. It throws the error if the server refuses the
 * subscription, or if the client had to stop. Leaving the loop closes the subscription.
 */
export class Subscription {
  #queue;
  #source;
  #release;
  #waiting = new Fifo(); // calls of `next` that wait for an item
  #isOver = false;
  #error = null;
  #last = {};
  #accepted;
  #accept;

  /** `source` has `positions()` and `close()`; the abortion of `signal` closes it as well. */
  constructor(limit, source, signal) {
    this.#queue = new Queue(limit);
    this.#source = source;
    signal?.addEventListener("abort", source.close);
    this.#release = () => signal?.removeEventListener("abort", source.close);
    this.#accepted = new Promise((resolve, reject) => {
      this.#accept = (error) => (error ? reject(error) : resolve());
    });
    this.#accepted.catch(() => {});
  }

  /** By event type, the position up to which everything was taken by the iteration; to be saved, and given as `since`. */
  get positions() {
    return this.#queue.positions(this.#isOver ? this.#last : this.#source.positions());
  }

  /** How many items were dropped because they were taken too slowly; each place is told by a `Gap`. */
  get dropped() {
    return this.#queue.dropped;
  }

  /** Return once the server has accepted the subscription: events from then on come. Throw the error if it never will. */
  accepted() {
    return this.#accepted;
  }

  /** End it. What is queued may still be taken. */
  close() {
    this.#source.close();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async next() {
    const item = this.#queue.take();
    if (item !== undefined) return { value: item, done: false };
    if (this.#error) throw this.#error;
    if (this.#isOver) return { value: undefined, done: true };
    return new Promise((resolve) => this.#waiting.push(resolve)).then(() => this.next());
  }

  /** What `for await` calls when its loop is left. */
  async return(value) {
    this.close();
    return { value, done: true };
  }

  // The client's side.

  accept() {
    this.#accept();
  }

  put(item) {
    this.#queue.put(item);
    this.#waiting.shift()?.();
  }

  end(error, positions) {
    this.#isOver = true;
    this.#error = error;
    this.#last = positions;
    this.#release();
    this.#accept(error);
    while (this.#waiting.length) this.#waiting.shift()();
  }
}
