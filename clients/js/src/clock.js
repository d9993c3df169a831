/** Time: what the core calls `now`, and one timer for what is due. */

const LONGEST = 2 ** 31 - 1; // milliseconds that a timer can wait

/** Return monotonic seconds. */
export const now = () => performance.now() / 1000;

/** One timer. It may ring before the time that was set last, never after it. */
export class Alarm {
  #ring;
  #timer;
  #time = null;

  constructor(ring) {
    this.#ring = ring;
  }

  /** Ring at this time at the latest; null: not at all. */
  set(time) {
    if (time === null) {
      this.stop();
    } else if (this.#time === null || time < this.#time) {
      clearTimeout(this.#timer);
      this.#time = time;
      const wait = Math.ceil(Math.max(0, time - now()) * 1000);
      this.#timer = setTimeout(() => {
        this.#time = null;
        this.#ring();
      }, Math.min(wait, LONGEST));
    }
  }

  stop() {
    clearTimeout(this.#timer);
    this.#time = null;
  }
}

/** Wait for a promise, for so many seconds at most. */
export async function within(promise, seconds) {
  let timer;
  const over = new Promise((resolve) => (timer = setTimeout(resolve, Math.min(seconds * 1000, LONGEST))));
  try {
    await Promise.race([promise, over]);
  } finally {
    clearTimeout(timer); // else Node would stay alive for it
  }
}
