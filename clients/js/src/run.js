/** A command that this client has called. */

import { Fifo } from "./fifo.js";

const STEPS = 1000; // of progress, that wait to be taken; the oldest are dropped

/**
 * Returned by `Nexus.call`: a promise of the result. The command is on its way already. A failure that nobody waits for is no
 * unhandled rejection.
 */
export class Run {
  #cancel;
  #release;
  #result;
  #settle;
  #steps = new Fifo();
  #outcomes = new Fifo(); // one for each target at most
  #isOver = false;
  #waiting = []; // iterations

  /** `cancel` asks the server to cancel the command; so does the abortion of `signal`. */
  constructor(cancel, signal) {
    this.#cancel = cancel;
    signal?.addEventListener("abort", cancel);
    this.#release = () => signal?.removeEventListener("abort", cancel);
    this.#result = new Promise((resolve, reject) => {
      this.#settle = (error, result) => (error ? reject(error) : resolve(result));
    });
    this.#result.catch(() => {});
  }

  /** Ask the server to cancel the command; its end still comes, mostly as `CommandCancelled`. */
  cancel() {
    if (!this.#isOver) this.#cancel();
  }

  /** What the handler reports, as `{agent, data}`, until the command ends, however it ends. One iteration takes each step. */
  get progress() {
    return this.#taken(this.#steps);
  }

  /**
   * For a list of targets: the outcome of each agent as it ends, `{agentId, status, result or message, code}`, until the command
   * ends, however it ends. One iteration takes each outcome; the result has them all.
   */
  get outcomes() {
    return this.#taken(this.#outcomes);
  }

  then(fulfilled, rejected) {
    return this.#result.then(fulfilled, rejected);
  }

  catch(rejected) {
    return this.#result.catch(rejected);
  }

  finally(settled) {
    return this.#result.finally(settled);
  }

  get [Symbol.toStringTag]() {
    return "Run";
  }

  async *#taken(items) {
    for (;;) {
      while (items.length) yield items.shift();
      if (this.#isOver) return;
      await new Promise((resolve) => this.#waiting.push(resolve));
    }
  }

  #move() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  // The client's side.

  report(agent, data) {
    if (this.#steps.length >= STEPS) this.#steps.shift();
    this.#steps.push({ agent, data });
    this.#move();
  }

  end(outcome) {
    this.#outcomes.push(outcome);
    this.#move();
  }

  settle(error, result) {
    this.#isOver = true;
    this.#release();
    this.#settle(error, result);
    this.#move();
  }
}
