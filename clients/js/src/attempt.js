/** One attempt to connect: the token, the socket, and one report of its end. */

import { checkToken, opening } from "./address.js";
import { now } from "./clock.js";
import { Socket } from "./socket.js";

/** Attempt `number` of the core. `after` is called after each report, for what the core wants then. */
export class Attempt {
  #number;
  #core;
  #options;
  #after;
  #socket = null;
  #isOver = false;

  /** `options`: `address`, `token` (a text, or a function that returns one or a promise of one) and `WebSocket`. */
  constructor(number, core, options, after) {
    this.#number = number;
    this.#core = core;
    this.#options = options;
    this.#after = after;
    void this.#begin();
  }

  send(text) {
    this.#socket?.say(text);
  }

  close(code, reason) {
    this.#socket?.bidFarewell(code, reason);
  }

  /** Give it up in whatever phase it is. */
  drop() {
    if (this.#socket) this.#socket.abort();
    else this.lost(1006, "given up");
  }

  /** Return once the network has taken most of what was sent. */
  async drained() {
    await this.#socket?.drained();
  }

  async #begin() {
    const { address, token: source, WebSocket } = this.#options;
    let token;
    try {
      token = checkToken(typeof source === "function" ? await source() : source);
    } catch (error) {
      // The text of an error may hold what it was about.
      this.#tell(() => this.#core.tokenFailed(now(), this.#number, error?.name ?? typeof error));
      return;
    }
    if (this.#isOver) return; // dropped meanwhile
    if (token !== null && !this.#core.token(now(), this.#number, token)) {
      this.#tell(() => {});
      return;
    }
    try {
      this.#socket = new Socket(this, WebSocket, ...opening(address, token));
    } catch (error) {
      // A browser's rule; its text would show the URL.
      this.refused({ status: null, retryAfter: null, detail: `no WebSocket: ${error?.name}`, certificate: false });
    }
  }

  /** Report something and let the core's wishes be done; nothing after the end. */
  #tell(report) {
    if (this.#isOver) return;
    report();
    this.#after();
  }

  // What the socket reports.

  opened() {
    this.#tell(() => this.#core.opened(now(), this.#number));
  }

  received(text) {
    this.#tell(() => this.#core.received(now(), this.#number, text));
  }

  binary() {
    this.#tell(() => this.#core.binary(now(), this.#number));
  }

  lost(code, reason) {
    this.#tell(() => {
      this.#isOver = true;
      this.#core.lost(now(), this.#number, code, reason);
    });
  }

  refused({ status, retryAfter, detail, certificate }) {
    this.#tell(() => {
      this.#isOver = true;
      this.#core.refused(now(), this.#number, status, retryAfter, detail, { certificate });
    });
  }
}
