/** When to try again. */

const LONGEST = 30; // seconds: the largest window of the back-off
const STABLE = 30; // seconds of a connection after which the back-off begins anew
export const DELAY = 1; // seconds: the server's delay until it says otherwise
const SPREAD = 1; // seconds over which those are spread who were refused until the same time

/** Return the window, in seconds, after so many failures: 1, 1, 2, 4, … 30. */
export const backoff = (failures) => Math.min(LONGEST, 2 ** Math.min(Math.max(failures - 1, 0), 8));

/**
 * The waits between attempts to connect.
 *
 * The time after a loss is divided into windows, with one attempt in each. The first window is the delay that the server
 * wishes; no later one is shorter, nor shorter than the back-off. The attempt's place in its window is drawn once for each
 * loss, evenly, and stays the same in all windows. So the clients of a server that went down are spread evenly over the first
 * window, and no later second has more attempts. A new draw after each failure would make them more frequent: clients that
 * draw an early place twice meet those that drew a late one.
 */
export class Retry {
  #random;
  #failures = 0;
  #delay = DELAY;
  #told = DELAY; // by the present connection
  #place = null;
  #window = 0; // the last attempt's
  #end = 0; // of that window

  constructor(random) {
    this.#random = random;
  }

  /**
   * Return the seconds until the next attempt, and count a failure. `delay`: the window that the server named for this return.
   * `steep`: apply the back-off the first time already. `after`: seconds to wait in any case (`Retry-After`).
   */
  wait(now, { delay = null, steep = false, after = 0 } = {}) {
    let window = delay ?? this.#delay;
    if (delay !== null) this.#delay = Math.max(this.#delay, delay);
    if (this.#failures || steep) window = Math.max(window, backoff(this.#failures));
    this.#failures++;
    let begin = now;
    let spread = window;
    if (this.#place === null) {
      this.#place = this.#random();
    } else {
      // The place has spread this client's attempts, and so their refusals.
      window = Math.max(window, this.#window);
      begin = Math.max(now, this.#end);
      spread = SPREAD;
    }
    let wait = begin - now + this.#place * window;
    if (after) wait = Math.max(wait, after + this.#place * spread);
    this.#window = window;
    this.#end = now + wait + (1 - this.#place) * window;
    return wait;
  }

  /**
   * A server has accepted the connection and wishes this delay, as things are. While its other clients are still on their way,
   * it knows of few: until the connection has lasted, a longer delay of before stays, also that of a farewell.
   */
  greeted(delay) {
    this.#told = delay;
    this.#delay = this.#failures ? Math.max(this.#delay, delay) : delay;
  }

  /** The server wishes another delay, in mid-session. */
  wished(delay) {
    this.#delay = this.#told = delay;
  }

  /** The next attempt is made before its time. */
  hasten(now) {
    this.#end = now;
  }

  /** A connection has ended after so many seconds. */
  ended(lasted) {
    this.#place = null;
    if (lasted >= STABLE) {
      this.#failures = 0;
      this.#delay = this.#told;
    }
  }
}
