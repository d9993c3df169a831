/** Requests of the application that the server answers: events to publish, commands to call. */

import {
  CommandCancelled,
  CommandError,
  CommandTimeout,
  ConnectionLost,
  NotConnected,
  Overloaded,
  RequestError,
  Timeout,
} from "../errors.js";
import { outcome, progress, settle } from "./effects.js";
import { encode, numbered } from "./messages.js";
import { Agenda } from "./times.js";

const COMMAND_ERRORS = new Map([
  ["cancelled", CommandCancelled],
  ["timeout", CommandTimeout],
]);

/**
 * A request that waits. `sent`: the server may have received it. `due`: when to send it again on this connection. `commandId`
 * is null for an event. `listed`: the command has a list of targets. `ended`: those of them whose outcome was told.
 * `cancelled`: the application wants no result.
 */
class Request {
  ended = new Set();
  sent = false;
  cancelled = false;
  due = null;
  failures = 0;

  constructor(number, text, deadline, commandId = null, listed = false) {
    this.number = number;
    this.text = numbered(text, number);
    this.deadline = deadline;
    this.commandId = commandId;
    this.listed = listed;
  }
}

/** Return what became of a command at one of several agents, in the form of the list of all. */
function outcomeOf({ agentId, status, data, message, code }) {
  if (status === "success") return { agentId, status, result: data?.result ?? null };
  return { agentId, status, message, code };
}

/** All requests that wait, each until it is settled, once. */
export class Requests {
  #link;
  #most;
  #newId;
  #pending = new Map(); // by number
  #agenda = new Agenda(); // when to look after which request

  constructor(link, most, newId) {
    this.#link = link;
    this.#most = most;
    this.#newId = newId;
  }

  publish(now, type, data, timeout) {
    const text = encode({ type: "publish", eventType: type, data: data === undefined ? null : data });
    this.#checkRoom();
    return this.#add(new Request(this.#link.number(), text, now + timeout));
  }

  call(now, message, bound, commandId) {
    this.#checkRoom();
    const chosen = commandId ?? this.#newId();
    const text = encode({ type: "command", ...message, commandId: chosen });
    return this.#add(new Request(this.#link.number(), text, now + bound, chosen, Array.isArray(message.target)));
  }

  cancel(number) {
    const request = this.#pending.get(number);
    if (!request || request.cancelled) return;
    if (!request.sent) {
      const Kind = request.commandId === null ? RequestError : CommandCancelled;
      this.#settle(request, new Kind("cancelled", "cancelled before it was sent"));
    } else if (request.commandId !== null) {
      request.cancelled = true;
      if (this.#link.up) this.#sendCancel(request);
    }
  }

  connected() {
    const waiting = [...this.#pending.values()];
    for (const request of waiting) if (request.commandId !== null && !request.cancelled) this.#send(request);
    for (const request of waiting) if (request.cancelled) this.#sendCancel(request);
    for (const request of waiting) if (request.commandId === null) this.#send(request);
  }

  lost() {
    for (const request of this.#pending.values()) {
      request.due = null;
      if (request.commandId === null && request.sent) {
        this.#settle(request, new ConnectionLost("the connection ended before the answer", true));
      }
    }
  }

  failAll(error) {
    for (const request of this.#pending.values()) this.#settle(request, error);
  }

  deadline() {
    while (this.#agenda.first && !this.#pending.has(this.#agenda.first[1])) this.#agenda.pop();
    return this.#agenda.first?.[0] ?? null;
  }

  tick(now) {
    while (this.#agenda.first && this.#agenda.first[0] <= now) {
      const request = this.#pending.get(this.#agenda.pop());
      if (!request) continue;
      if (request.deadline <= now) {
        this.#expire(request);
      } else if (request.due !== null && request.due <= now) {
        request.due = null;
        if (this.#link.up) this.#send(request);
      }
    }
  }

  #checkRoom() {
    if (this.#pending.size >= this.#most) throw new Overloaded(`${this.#most} requests are pending`);
  }

  #add(request) {
    this.#pending.set(request.number, request);
    this.#look(request.deadline, request);
    if (this.#link.up) this.#send(request);
    return request.number;
  }

  #look(time, request) {
    // Most are of settled requests.
    if (this.#agenda.size > 2 * this.#pending.size + 64) this.#agenda.keep((number) => this.#pending.has(number));
    this.#agenda.add(time, request.number);
  }

  #send(request) {
    const excess = this.#link.excess(request.text);
    if (excess) {
      const Kind = request.commandId === null ? RequestError : CommandError;
      this.#settle(request, new Kind("too_large", `the message has ${excess} bytes, more than ${this.#link.limit}`));
      return;
    }
    request.sent = true;
    this.#link.ask(request.number, request.text, (now, message) => {
      if (request.commandId === null) this.#published(request, message);
      else this.#executed(now, request, message);
    });
  }

  #sendCancel(request) {
    // With the command's own `id`, so that the server answers both by one error.
    const text = encode({ type: "cancel", commandId: request.commandId, id: request.number });
    this.#link.ask(request.number, text, (now, message) => this.#executed(now, request, message));
  }

  #published(request, message) {
    if (message.type === "error") {
      this.#settle(request, new RequestError(String(message.code), message.message, message.retryable));
    } else {
      this.#settle(request, null, message.position ?? null);
    }
  }

  #executed(now, request, message) {
    if (message.type === "command_progress") {
      this.#link.emit(progress(request.number, message.agentId, message.data));
    } else if (message.type === "error" && message.code === "shutting_down" && !request.cancelled) {
      request.failures++;
      request.due = this.#link.again(now, request.failures);
      this.#look(request.due, request);
    } else if (message.type === "error") {
      const Kind = COMMAND_ERRORS.get(message.code) ?? CommandError;
      this.#settle(request, new Kind(String(message.code), message.message, message.retryable));
    } else if (message.type === "command_result") {
      this.#resulted(request, message);
    }
  }

  #resulted(request, message) {
    if (!request.listed) {
      this.#settle(request, null, message.data?.result ?? null);
    } else if (message.agentId !== null) {
      this.#ended(request, outcomeOf(message));
    } else {
      const results = message.data?.results ?? null;
      for (const told of Array.isArray(results) ? results : []) this.#ended(request, told);
      this.#settle(request, null, results);
    }
  }

  /** Tell the outcome of one agent, unless that was told before. */
  #ended(request, told) {
    const agent = told?.agentId;
    if (typeof agent !== "string" || request.ended.has(agent)) return;
    request.ended.add(agent);
    this.#link.emit(outcome(request.number, told));
  }

  #expire(request) {
    if (request.commandId === null && !request.sent) {
      this.#settle(request, new NotConnected("there was no connection in time"));
    } else {
      this.#settle(request, new Timeout("no answer in time", request.sent));
    }
  }

  #settle(request, error, result = null) {
    this.#pending.delete(request.number);
    this.#link.settled(request.number);
    this.#link.emit(settle(request.number, error, result));
  }
}
