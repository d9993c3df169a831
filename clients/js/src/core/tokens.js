/** Which token may be sent. */

const REFUSALS = 3; // different tokens refused in a row, after which asking for another one is in vain

/** Remember refused tokens. A fixed token that is refused is the end; a renewable one may be replaced. */
export class Tokens {
  #renewable;
  #present = null; // private, so that no inspection or serialisation of the client shows it
  #refused = [];
  #row = 0;

  constructor(renewable) {
    this.#renewable = renewable;
  }

  /** Return whether this token may be sent: it was not refused. */
  offer(token) {
    this.#present = token;
    return !this.#refused.includes(token);
  }

  /** The server has greeted. */
  accepted() {
    this.#row = 0;
  }

  /** The server has refused the present token. Return whether to ask for another one. */
  refuse() {
    this.#refused = [...this.#refused, this.#present].slice(-REFUSALS);
    this.#row++;
    return this.#renewable && this.#row < REFUSALS;
  }
}
