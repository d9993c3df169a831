/** Everything that a connection carries, as one. */

import { Stopped } from "../errors.js";
import { broadcast, report } from "./effects.js";
import { Executions } from "./executions.js";
import { Registrations } from "./registrations.js";
import { Requests } from "./requests.js";
import { Sender } from "./sender.js";
import { Subscriptions } from "./subscriptions.js";
import { earliest } from "./times.js";

/** The parts, in the order in which they speak on a new connection. */
export class Parts {
  #link;

  constructor(link, stats, options, newId) {
    this.#link = link;
    this.registrations = new Registrations(link, options.agent);
    this.subscriptions = new Subscriptions(link, stats);
    this.requests = new Requests(link, options.requests, newId);
    this.executions = new Executions(link, this.registrations, stats, options.handlers);
    this.sender = new Sender(link, stats);
  }

  connected(now) {
    this.registrations.connected(now);
    this.subscriptions.connected(now);
    this.requests.connected();
    this.sender.connected(now);
  }

  /** Take a message that is not about the connection itself. */
  message(now, message) {
    switch (message.type) {
      case "event":
        return this.subscriptions.event(message);
      case "command":
        return this.#link.up ? this.executions.command(now, message) : undefined;
      case "command_cancel":
        return this.executions.cancel(message);
      case "continuity":
        return this.subscriptions.continuity(message);
      case "broadcast":
        return this.#link.emit(broadcast(message.data));
    }
    if (message.id != null) return this.#link.answered(now, message);
    switch (message.type) {
      case "unsubscribed":
        return this.subscriptions.ended(message);
      case "unregistered":
        return this.registrations.ended(message);
      case "error":
        return this.#link.emit(report("protocol", `${message.code}: ${message.message}`));
    }
  }

  /** The connection has ended; there will be another one. */
  lost() {
    this.requests.lost();
    this.subscriptions.lost();
    this.registrations.lost();
    this.sender.lost();
  }

  /** There will be no other connection: what waits ends with the error. */
  stopped(error) {
    this.requests.failAll(error);
    this.subscriptions.closeAll(error.constructor === Stopped ? null : error);
    this.executions.cancelAll();
  }

  deadline() {
    const times = [this.requests.deadline(), this.executions.deadline()];
    if (this.#link.up) times.push(this.subscriptions.deadline(), this.registrations.deadline(), this.sender.deadline());
    return earliest(times);
  }

  tick(now) {
    this.subscriptions.tick(now);
    this.registrations.tick(now);
    this.requests.tick(now);
    this.executions.tick(now);
    this.sender.tick(now);
  }
}
