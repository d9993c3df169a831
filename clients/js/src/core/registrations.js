/** The commands that this client executes, as the server knows them. */

import { report } from "./effects.js";
import { checkName } from "./matching.js";
import { encode, numbered } from "./messages.js";
import { earliest } from "./times.js";

/**
 * Register the commands again on each connection. A refused registration is reported and not repeated before the next
 * connection; one that is refused for a while is.
 */
export class Registrations {
  #link;
  #agent;
  #names = new Set();
  #waiting = []; // {due, failures, commands} to repeat

  constructor(link, agent) {
    this.#link = link;
    this.#agent = agent;
  }

  has(command) {
    return this.#names.has(command);
  }

  add(now, command) {
    if (this.#names.has(checkName(command, "command"))) return;
    this.#names.add(command);
    if (this.#link.up) this.#ask(now, 0, [command]);
  }

  remove(command) {
    if (this.#names.delete(command) && this.#link.up) {
      this.#link.say({ type: "unregister", commands: [command], id: this.#link.number() });
    }
  }

  connected(now) {
    this.#ask(now, 0, [...this.#names]);
  }

  lost() {
    this.#waiting = [];
  }

  deadline() {
    return earliest(this.#waiting.map((waiting) => waiting.due));
  }

  tick(now) {
    if (!this.#link.up) return;
    const due = this.#waiting.filter((waiting) => waiting.due <= now);
    this.#waiting = this.#waiting.filter((waiting) => waiting.due > now);
    for (const { failures, commands } of due) this.#ask(now, failures, commands);
  }

  /** An administrator has ended registrations, until the next connection. */
  ended(message) {
    this.#link.emit(report("registration", `an administrator ended the registration of ${message.commands.join(", ")}`));
  }

  #ask(now, failures, asked) {
    const commands = asked.filter((command) => this.#names.has(command));
    if (!commands.length) return;
    const number = this.#link.number();
    const message = { type: "register", commands };
    if (this.#agent !== null) message.agentId = this.#agent;
    this.#link.ask(number, numbered(encode(message), number), (later, reply) => {
      this.#link.settled(number);
      if (reply.type === "error") this.#refused(later, failures + 1, commands, reply);
    });
  }

  #refused(now, failures, commands, reply) {
    if (reply.retryable) {
      this.#waiting.push({ due: this.#link.again(now, failures), failures, commands });
    } else if (commands.length > 1) {
      // The server refuses all for the sake of one: the others shall be executed.
      for (const command of commands) this.#ask(now, 0, [command]);
      return;
    }
    this.#link.emit(report("registration", `the registration of ${commands.join(", ")} was refused: ${reply.message}`));
  }
}
