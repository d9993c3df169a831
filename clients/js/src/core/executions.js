/** The commands that run here, and the results of those that ran. */

import { cancelInvocation, invoke, report } from "./effects.js";
import { encode, parseTime } from "./messages.js";
import { earliest } from "./times.js";

const KEPT = 1000; // results
const KEPT_BYTES = 16 * 1024 * 1024; // characters of all of them
const KEPT_FOR = 86_400; // seconds; the server remembers a command as long

/** Run each command once, also if it comes again after a lost connection: then the same execution answers. */
export class Executions {
  #link;
  #registrations;
  #stats;
  #most;
  #number = 0;
  // A running execution is {number, key, message, connection, deadline, cancelled}: `connection` is the attempt on which the
  // server gave the command last, and takes an answer.
  #running = new Map(); // by number
  #byKey = new Map();
  #kept = new Map(); // by key, the oldest first: {at, answer, size}
  #keptBytes = 0;

  constructor(link, registrations, stats, most) {
    this.#link = link;
    this.#registrations = registrations;
    this.#stats = stats;
    this.#most = most;
  }

  command(now, message) {
    const key = keyOf(message);
    const deadline = parseTime(message.deadline) - this.#link.clock;
    const running = this.#byKey.get(key);
    this.#forget(now);
    if (running) {
      this.#stats.repeats++;
      running.connection = this.#link.attempt;
      running.deadline = deadline;
      running.cancelled = false; // somebody waits for it again
    } else if (this.#kept.has(key)) {
      this.#stats.repeats++;
      this.#answer(message, this.#kept.get(key).answer ?? failure("executed, but its result is no longer kept"));
    } else if (!this.#registrations.has(message.command)) {
      this.#answer(message, failure(`this client does not execute ${message.command}`));
    } else if (this.#running.size >= this.#most) {
      this.#stats.busy++;
      this.#answer(message, failure("too busy"));
    } else {
      this.#stats.commands++;
      const number = ++this.#number;
      const execution = { number, key, message, connection: this.#link.attempt, deadline, cancelled: false };
      this.#running.set(number, execution);
      this.#byKey.set(key, execution);
      this.#link.emit(invoke(number, message, deadline));
    }
  }

  cancel({ commandId, agentId, reason }) {
    for (const execution of this.#running.values()) {
      const about = execution.message;
      if (about.commandId === commandId && (agentId === null || agentId === about.agentId)) this.#cancel(execution, reason);
    }
  }

  cancelAll() {
    for (const execution of this.#running.values()) this.#cancel(execution, "closed");
  }

  progress(number, data) {
    const execution = this.#running.get(number);
    if (!execution) return;
    const text = encode(about(execution.message, { type: "command_progress", data }));
    if (!this.#isReachable(execution)) return;
    const excess = this.#link.excess(text);
    if (excess) this.#link.emit(report("command", `progress of ${excess} bytes is too long and was not sent`));
    else this.#link.send(text);
  }

  end(now, number, answer) {
    const size = encode(answer).length;
    const execution = this.#running.get(number);
    if (!execution) return;
    this.#running.delete(number);
    this.#byKey.delete(execution.key);
    this.#forget(now);
    this.#kept.set(execution.key, { at: now, answer, size });
    this.#keptBytes += size;
    this.#bound();
    if (this.#isReachable(execution)) this.#answer(execution.message, answer);
  }

  deadline() {
    const orphans = [...this.#running.values()].filter((execution) => this.#isOrphaned(execution));
    return earliest(orphans.map((execution) => execution.deadline));
  }

  tick(now) {
    for (const execution of this.#running.values()) {
      if (execution.deadline <= now && this.#isOrphaned(execution)) this.#cancel(execution, "timeout");
    }
  }

  /** Return whether no server would tell the end of its time. */
  #isOrphaned(execution) {
    return !execution.cancelled && !(this.#link.up && execution.connection === this.#link.attempt);
  }

  #isReachable(execution) {
    return this.#link.up && execution.connection === this.#link.attempt && !execution.cancelled;
  }

  #cancel(execution, reason) {
    if (execution.cancelled) return;
    execution.cancelled = true;
    this.#link.emit(cancelInvocation(execution.number, reason));
  }

  #answer(message, answer) {
    let text = encode(about(message, answer));
    const excess = this.#link.excess(text);
    if (excess) {
      const why = `the result has ${excess} bytes, more than ${this.#link.limit}`;
      this.#link.emit(report("command", `${message.command}: ${why}`));
      text = encode(about(message, failure(why)));
    }
    this.#link.send(text);
  }

  #forget(now) {
    for (const [key, { at, size }] of this.#kept) {
      if (at + KEPT_FOR > now) break;
      this.#kept.delete(key);
      this.#keptBytes -= size;
    }
  }

  #bound() {
    for (const [key, { at, size }] of this.#kept) {
      if (this.#kept.size > KEPT) this.#kept.delete(key);
      // That it ran stays known, so that it does not run twice.
      else if (this.#keptBytes > KEPT_BYTES) this.#kept.set(key, { at, answer: null, size: 0 });
      else break;
      this.#keptBytes -= size;
    }
  }
}

/** Return the members of a result. */
export const success = (data) => ({ type: "command_result", data: data === undefined ? null : data });

/** Return the members of a failure. */
export const failure = (message) => ({ type: "command_result", status: "error", message });

// What makes two commands of the server the same one.
const keyOf = ({ commandId, agentId, caller, command }) => JSON.stringify([commandId, agentId, caller, command]);

function about({ commandId, agentId }, members) {
  return agentId === null ? { ...members, commandId } : { ...members, commandId, agentId };
}
