/** The handlers of commands, and those that run. */

import { now, within } from "./clock.js";
import { CommandFailed } from "./errors.js";

/**
 * One execution of a command, the first argument of its handler.
 *
 * `caller` is the caller's subject, `agent` the agent that was called if the server named it, `attempt` counts from 1. `signal`
 * is aborted once nobody waits for the result any more.
 */
export class Call {
  #progress;
  #deadline;

  constructor({ command, caller, agent, attempt, deadline }, signal, progress) {
    this.#progress = progress;
    this.#deadline = deadline;
    this.command = command;
    this.caller = caller;
    this.agent = agent;
    this.attempt = attempt;
    this.signal = signal;
  }

  /**
   * Tell the caller how far it is: any JSON. Throw `TypeError` for anything else. It is sent in any case; await the result not
   * to be faster than the network.
   */
  progress(data = null) {
    return this.#progress(data);
  }

  /** Return the seconds until nobody waits for the result any more. */
  remaining() {
    return Math.max(0, this.#deadline - now());
  }
}

/**
 * Run a handler for each invocation. `client` has `after()`, called after each report for what the core wants then,
 * `drained()` and `report(kind, message, error)`.
 */
export class Handlers {
  #core;
  #client;
  #handlers = new Map(); // by command
  #running = new Map(); // by execution: {controller, done}

  constructor(core, client) {
    this.#core = core;
    this.#client = client;
  }

  add(command, handler) {
    this.#handlers.set(command, handler);
  }

  invoke(invocation) {
    const { execution, command } = invocation;
    const controller = new AbortController();
    const call = new Call(invocation, controller.signal, (data) => {
      this.#core.progress(now(), execution, data);
      this.#client.after();
      return this.#client.drained();
    });
    const done = this.#run(execution, command, call, invocation.parameters ?? {});
    this.#running.set(execution, { controller, done });
  }

  cancel(execution, reason) {
    this.#running.get(execution)?.controller.abort(new DOMException(`nobody waits any more: ${reason}`, "AbortError"));
  }

  /** Wait until none runs any more, for so many seconds at most. */
  async ended(seconds) {
    await within(Promise.all([...this.#running.values()].map(({ done }) => done)), seconds);
  }

  async #run(execution, command, call, parameters) {
    await null; // not within the work of the core
    try {
      const result = await this.#handlers.get(command)(call, parameters);
      this.#core.succeed(now(), execution, result);
    } catch (error) {
      this.#core.fail(now(), execution, this.#explain(command, call, error));
    }
    this.#running.delete(execution);
    this.#client.after();
  }

  /** Return what the caller is told. That is not the text of any error: it may hold a secret. */
  #explain(command, call, error) {
    if (error instanceof CommandFailed) return error.message;
    if (call.signal.aborted) return "cancelled";
    this.#client.report("handler", `the handler of ${command} failed`, error);
    return `internal error in handler ${command}`;
  }
}
