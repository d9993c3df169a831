/** The core: takes what happens and says what to do. */

import { Connection } from "./connection.js";
import { failure, success } from "./executions.js";
import { Link } from "./link.js";
import { checkName } from "./matching.js";
import { Parts } from "./parts.js";
import { Stats } from "./stats.js";

const GRACE = 30; // seconds beside a command's own times until its caller gives up

/**
 * A client's behaviour, without I/O, clock or randomness of its own.
 *
 * Each input takes `now`, monotonic seconds. After each, `drain` returns the effects to carry out, in order; then `deadline`
 * says when to call `tick` at the latest. A timer may be left armed for an earlier time: an early `tick` does no harm. `random`
 * returns a number in [0, 1), `newId` a unique text.
 *
 * Options: `agent`, the id under which commands are registered (null: the server's `clientId` of each connection);
 * `renewable`: the token comes from a function that can return another one; `requests`: how many may be pending; `handlers`:
 * how many commands may run at once.
 *
 * Inputs that the application gives wrongly throw `TypeError` and change nothing. After the end, those that would ask for
 * something throw the `Stopped` that ended the client.
 */
export class Core {
  #link;
  #parts;
  #connection;
  stats = new Stats();

  constructor({ agent = null, renewable = false, requests = 10_000, handlers = 100 }, random, newId) {
    this.#link = new Link(random);
    this.#parts = new Parts(this.#link, this.stats, { agent, requests, handlers }, newId);
    this.#connection = new Connection(this.#link, this.#parts, this.stats, renewable, random);
  }

  /** Return the effects since the last call. */
  drain() {
    const effects = this.#link.effects;
    this.#link.effects = [];
    return effects;
  }

  /** Return the time at which `tick` is wanted next; null if nothing waits. */
  deadline() {
    return this.#connection.deadline();
  }

  /** `idle` (not started), `connecting`, `connected`, `waiting` or `closed`. */
  get state() {
    return this.#connection.state;
  }

  /** Whom the server took this client for when it connected last; null before that, or if the server did not tell. */
  get user() {
    return this.#connection.user;
  }

  // The client's life.

  /** Begin to connect, and stay connected. Has an effect once. */
  start(now) {
    this.#connection.start(now);
  }

  /** End in order: settle what is pending with `Stopped`, close with 1000. The state `closed` follows the last socket. */
  stop(now) {
    this.#connection.stop(now);
  }

  /** The network or the machine is back: retry at once if waiting, check the connection if there is one. */
  woke(now) {
    this.#connection.woke(now);
  }

  /** Do what is due. */
  tick(now) {
    this.#connection.tick(now);
  }

  // The connection. Reports of an attempt that is not the present one are ignored.

  /** Return whether the token may be sent; false ends the attempt: the server has refused this very token before. */
  token(now, attempt, token) {
    return this.#connection.token(now, attempt, token);
  }

  /** No token could be obtained. `error` must not hold a secret: it is reported. */
  tokenFailed(now, attempt, error) {
    this.#connection.tokenFailed(now, attempt, error);
  }

  /** The WebSocket is open. */
  opened(now, attempt) {
    this.#connection.opened(now, attempt);
  }

  /**
   * The attempt failed before the WebSocket was open. `status` is that of the HTTP response, null if there was none, or it is
   * not known; `retryAfter` its `Retry-After` in seconds; `certificate`: the server's certificate does not verify.
   */
  refused(now, attempt, status, retryAfter, detail, { certificate = false } = {}) {
    this.#connection.refused(now, attempt, status, retryAfter, detail, certificate);
  }

  /** A text message came. */
  received(now, attempt, text) {
    this.#connection.received(now, attempt, text);
  }

  /** A binary message came, which the protocol does not have. */
  binary(now, attempt) {
    this.#connection.binary(now, attempt);
  }

  /**
   * The socket is gone. `code` and `reason` are those of the server's close frame if the server began the close; 1006 if there
   * was no close frame, if this side began (also because the library found a violation), or after `drop`.
   */
  lost(now, attempt, code, reason) {
    this.#connection.lost(now, attempt, code, reason);
  }

  // Events.

  /**
   * Open a stream of the events that match a pattern and the filter; return its number. `since`: positions, by type, after
   * which to continue; `{}`: from the beginning of each type's history. Throw `TypeError`, naming the member, if a pattern, an
   * operand or a position is malformed.
   */
  subscribe(now, patterns, { where = null, since = null } = {}) {
    this.#check();
    return this.#parts.subscriptions.open(now, patterns, where, since);
  }

  /** End a stream. Its end follows at once; an unknown or ended stream is ignored. */
  unsubscribe(now, stream) {
    this.#parts.subscriptions.close(stream, null);
  }

  /** Return the position of each type up to which the stream has been delivered; see `Queue.positions`. */
  positions(stream) {
    return this.#parts.subscriptions.positions(stream);
  }

  // Requests. Each returns a number for which exactly one `settle` follows. Throw `Overloaded` if too many are pending,
  // `TypeError` if the data is no JSON.

  /** Publish an event, once. While there is no connection it waits, for `timeout` seconds in all. */
  publish(now, type, data, { timeout = 10 } = {}) {
    this.#check();
    return this.#parts.requests.publish(now, checkName(type, "type"), data, timeout);
  }

  /**
   * Call a command; `parameters` of null are left out. Sent again with the same id after a reconnect. Without an answer for
   * `timeout * (retries + 1) + ttl + 30` seconds it settles with `Timeout`.
   */
  call(now, command, parameters, { target = null, timeout = 30, ttl = 0, retries = 0, commandId = null } = {}) {
    this.#check();
    const message = { command: checkName(command, "command") };
    if (parameters != null) message.parameters = parameters;
    if (target !== null) message.target = target;
    Object.assign(message, { timeout, ttl, retries });
    return this.#parts.requests.call(now, message, timeout * (retries + 1) + ttl + GRACE, commandId);
  }

  /** Cancel a request: a command on the server; an event if it was not sent yet. Others, and ended ones, are ignored. */
  cancel(now, request) {
    this.#parts.requests.cancel(request);
  }

  // Commands that this client executes.

  /** Execute this command from now on. Throw `TypeError` if the name is malformed. */
  register(now, command) {
    this.#check();
    this.#parts.registrations.add(now, command);
  }

  /** Execute this command no more. What runs may finish. */
  unregister(now, command) {
    this.#parts.registrations.remove(command);
  }

  /** Tell the caller how far an execution is. Nothing is sent while the server cannot attribute it. */
  progress(now, execution, data) {
    this.#parts.executions.progress(execution, data);
  }

  /** An execution ended with this result. Throw `TypeError` if it is no JSON; the execution then still runs. */
  succeed(now, execution, data) {
    this.#parts.executions.end(now, execution, success(data));
  }

  /** An execution ended without a result; the caller is told the message. */
  fail(now, execution, message) {
    this.#parts.executions.end(now, execution, failure(message));
  }

  // Telemetry.

  /** The spool holds samples that were not given to `batch` yet. Call it at the start and after each new sample. */
  spooled(now) {
    this.#parts.sender.spooled(now);
  }

  /** The answer to `fetch`: samples in the order of the spool; fewer than its limit if there are no more. */
  batch(now, samples) {
    this.#parts.sender.batch(now, samples);
  }

  #check() {
    if (this.#connection.stopped !== null) throw this.#connection.stopped;
  }
}
