/** Whether the other end is still there. */

const INTERVAL = 30; // seconds between heartbeats, until the server says otherwise
const ANSWER = 10; // seconds: the longest wait for the answer to a probe

/** Watch a connection on which the server sends something every `interval` seconds. */
export class Liveness {
  #heard = 0;
  #interval = INTERVAL;
  #probed = null;

  begin(now, interval) {
    this.#interval = interval > 0 ? interval : INTERVAL;
    this.hear(now);
  }

  /** Something came. */
  hear(now) {
    this.#heard = now;
    this.#probed = null;
  }

  /** A question was sent; from now on an answer is wanted soon. */
  probe(now) {
    this.#probed = now;
  }

  /** Whether an answer is awaited. */
  get probing() {
    return this.#probed !== null;
  }

  /** Return when the silence has lasted too long: then probe, or if probing already, give the connection up. */
  deadline() {
    if (this.#probed === null) return this.#heard + 1.25 * this.#interval;
    return this.#probed + Math.min(ANSWER, this.#interval / 2);
  }
}
