/** The present connection, as the parts of the core see it. */

import { send } from "./effects.js";
import { bytes, encode } from "./messages.js";
import { backoff } from "./retry.js";

const ID = 32; // bytes of a member `id`, at most
export const MESSAGE = 262_144; // bytes of a message, until the server says otherwise

/**
 * Send messages and hand their replies to those who asked.
 *
 * `up`: the server has greeted and no end is in sight. `attempt` is the number of the connection, `limit` the bytes that a
 * message may have (0: any number), `clock` the server's clock (seconds since 1970) minus `now`.
 */
export class Link {
  #random;
  #number = 0;
  #answers = new Map();
  effects = [];
  up = false;
  attempt = 0;
  limit = MESSAGE;
  clock = 0;

  constructor(random) {
    this.#random = random;
  }

  /** Return the next number for a request. */
  number() {
    return ++this.#number;
  }

  emit(effect) {
    this.effects.push(effect);
  }

  send(text) {
    this.effects.push(send(text));
  }

  /** Send a message that has no reply. */
  say(message) {
    this.send(encode(message));
  }

  /** Send a message that has this number as `id`; `answer(now, message)` receives each reply until `settled`. */
  ask(number, text, answer) {
    this.#answers.set(number, answer);
    this.send(text);
  }

  /** No reply is wanted any more. */
  settled(number) {
    this.#answers.delete(number);
  }

  /** Hand over a reply. Replies that nobody waits for are ignored. */
  answered(now, message) {
    this.#answers.get(message.id)?.(now, message);
  }

  /** Return when to repeat, on the same connection, a message that was refused so many times for a while. */
  again(now, failures) {
    return now + this.#random() * backoff(failures);
  }

  /** Return the bytes of a text that is too long to be sent (also with an `id` that it may still lack), else 0. */
  excess(text) {
    if (!this.limit || text.length * 3 + ID <= this.limit) return 0;
    const size = bytes(text);
    return size + ID > this.limit ? size : 0;
  }

  /** Nothing more can be sent on this connection. Replies may still come. */
  down() {
    this.up = false;
  }

  /** The connection has ended. */
  gone() {
    this.up = false;
    this.#answers.clear();
  }
}
