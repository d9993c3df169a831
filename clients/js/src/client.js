/** The client. */

import { checkToken, parseAddress } from "./address.js";
import { Attempt } from "./attempt.js";
import { Alarm, now, within } from "./clock.js";
import { Core } from "./core/core.js";
import { checkName } from "./core/matching.js";
import { LIMIT } from "./core/queue.js";
import { Stopped } from "./errors.js";
import { Handlers } from "./handlers.js";
import { newId } from "./ids.js";
import { Listeners } from "./listeners.js";
import { Run } from "./run.js";
import { makeSample } from "./samples.js";
import { MemorySpool } from "./spool/memory.js";
import { Subscription } from "./subscription.js";
import { Telemetry } from "./telemetry.js";
import { watch } from "./waking.js";

const PATIENCE = 5; // seconds for what is under way when the client is closed

/**
 * A client of Nexus: begins to connect at the end of the present turn, and stays connected until it is closed. Types and
 * their meaning are in `index.d.ts`. All times are seconds.
 */
export class Nexus {
  #connecting; // what each attempt needs
  #agent;
  #queue;
  #core;
  #attempt = null;
  #alarm = new Alarm(() => this.#tick());
  #listeners = new Listeners();
  #handlers;
  #telemetry;
  #subscriptions = new Map(); // by stream
  #runs = new Map(); // by request
  #error = null;
  #isWorking = false;
  #isRearming = false;
  #isFinished = false;
  #awaiting = []; // calls of `connected`: [resolve, reject]
  #closing = []; // calls of `closed`: [resolve, reject]
  #unwatch = () => {};
  #carriers = {
    deliver: ({ stream, item }) => this.#subscriptions.get(stream)?.put(item),
    send: ({ text }) => this.#attempt.send(text),
    settle: ({ request, error, result }) => this.#settle(request, error, result),
    connect: ({ attempt }) => this.#connect(attempt),
    close: ({ code, reason }) => this.#attempt.close(code, reason),
    drop: () => this.#attempt.drop(),
    state: (state) => this.#turn(state),
    subscribed: ({ stream }) => this.#subscriptions.get(stream)?.accept(),
    end: ({ stream, error, positions }) => this.#end(stream, error, positions),
    broadcast: ({ data }) => this.#listeners.tell("broadcast", data),
    invoke: (invocation) => this.#handlers.invoke(invocation),
    cancelInvocation: ({ execution, reason }) => this.#handlers.cancel(execution, reason),
    progress: ({ request, agent, data }) => this.#runs.get(request)?.report(agent, data),
    outcome: ({ request, outcome }) => this.#runs.get(request)?.end(outcome),
    fetch: ({ limit }) => this.#telemetry.fetch(limit),
    stored: ({ ids }) => this.#telemetry.settle(ids, null),
    refused: ({ ids, error }) => this.#telemetry.settle(ids, error),
    report: ({ kind, message }) => this.#listeners.report({ kind, message, error: null }),
  };

  constructor(
    url,
    {
      token = null,
      agent = null,
      WebSocket = globalThis.WebSocket,
      spool = new MemorySpool(),
      queue = LIMIT,
      requests = 10_000,
      handlers = 100,
    } = {},
  ) {
    if (typeof WebSocket !== "function") {
      throw new TypeError("WebSocket: this platform has none; give one as an option, such as that of npm's ws");
    }
    if (agent !== null) checkName(agent, "agent");
    const renewable = typeof token === "function";
    this.#connecting = { address: parseAddress(url), token: renewable ? token : checkToken(token), WebSocket };
    this.#agent = agent;
    this.#queue = queue;
    this.#core = new Core({ agent, renewable, requests, handlers }, Math.random, newId);
    this.#handlers = new Handlers(this.#core, {
      after: () => this.#work(),
      drained: async () => this.#attempt?.drained(),
      report: (kind, message, error) => this.#listeners.report({ kind, message, error }),
    });
    this.#telemetry = new Telemetry(spool, {
      spooled: () => this.#do(() => this.#core.spooled(now())),
      batch: (samples) => this.#do(() => this.#core.batch(now(), samples)),
      report: (error) => this.#listeners.report({ kind: "spool", message: error.message, error }),
    });
    queueMicrotask(() => this.#start());
  }

  // The client's life.

  get state() {
    return this.#core.state;
  }

  get user() {
    return this.#core.user;
  }

  get stats() {
    return this.#core.stats;
  }

  on(name, listener) {
    return this.#listeners.add(name, listener);
  }

  async connected() {
    if (this.state === "connected") return;
    if (this.state === "closed") throw this.#ending;
    await new Promise((...ends) => this.#awaiting.push(ends));
  }

  async closed() {
    if (!this.#isFinished) await new Promise((...ends) => this.#closing.push(ends));
    else if (this.#error) throw this.#error;
  }

  async close({ timeout = PATIENCE } = {}) {
    if (this.state === "connected") await within(Promise.race([this.#telemetry.emptied(), this.#over()]), timeout);
    this.#do(() => this.#core.stop(now()));
    await this.#over();
  }

  woke() {
    this.#do(() => this.#core.woke(now()));
  }

  // Events.

  subscribe(patterns, { where = null, since = null, signal } = {}) {
    signal?.throwIfAborted();
    const list = typeof patterns === "string" ? [patterns] : patterns;
    const stream = this.#core.subscribe(now(), list, { where, since });
    const close = () => this.#do(() => this.#core.unsubscribe(now(), stream));
    const subscription = new Subscription(this.#queue, { positions: () => this.#core.positions(stream), close }, signal);
    this.#subscriptions.set(stream, subscription);
    this.#work();
    return subscription;
  }

  async publish(type, data = null, { timeout = 10 } = {}) {
    return this.#request(this.#core.publish(now(), type, data, { timeout }));
  }

  // Commands.

  call(command, { parameters = null, target = null, timeout = 30, ttl = 0, retries = 0, commandId = null, signal } = {}) {
    signal?.throwIfAborted();
    return this.#request(this.#core.call(now(), command, parameters, { target, timeout, ttl, retries, commandId }), signal);
  }

  command(name, handler) {
    if (typeof handler !== "function") throw new TypeError("handler: expected a function");
    this.#core.register(now(), name);
    this.#handlers.add(name, handler);
    this.#work();
  }

  forgetCommand(name) {
    this.#do(() => this.#core.unregister(now(), name));
  }

  // Telemetry.

  async telemetry(metrics, { agent = this.#agent, at } = {}) {
    const sample = makeSample(newId(), agent, metrics, at);
    if (this.state === "closed") throw this.#ending;
    return this.#telemetry.add(sample);
  }

  // The core's time.

  async #start() {
    if (this.state === "closed") return; // closed in the turn in which it was made
    this.#unwatch = watch(() => this.woke());
    this.#do(() => this.#core.start(now()));
    await this.#telemetry.open();
  }

  #do(input) {
    input();
    this.#work();
  }

  /** Carry out all effects, also those of listeners; at the end of this turn, wait for the next deadline. */
  #work() {
    if (this.#isWorking) return;
    this.#isWorking = true;
    try {
      for (let wanted = this.#core.drain(); wanted.length; wanted = this.#core.drain()) {
        for (const effect of wanted) this.#carriers[effect.effect](effect);
      }
    } finally {
      this.#isWorking = false;
    }
    if (!this.#isRearming) {
      this.#isRearming = true;
      queueMicrotask(() => this.#rearm());
    }
  }

  #rearm() {
    this.#isRearming = false;
    if (!this.#isFinished) this.#alarm.set(this.#core.deadline());
  }

  #tick() {
    this.#do(() => this.#core.tick(now()));
  }

  // What the core wants.

  #connect(number) {
    this.#attempt = new Attempt(number, this.#core, this.#connecting, () => this.#work());
  }

  #turn({ state, retryIn, error, reason }) {
    if (state === "connected") {
      for (const [resolve] of this.#awaiting.splice(0)) resolve();
    } else if (state === "closed") {
      this.#error = error;
      for (const [, reject] of this.#awaiting.splice(0)) reject(this.#ending);
      if (error) this.#listeners.report({ kind: "stopped", message: error.message, error });
      void this.#finish();
    }
    this.#listeners.tell("state", { state, retryIn, error, reason });
  }

  async #finish() {
    this.#unwatch();
    await this.#handlers.ended(PATIENCE);
    await this.#telemetry.close(this.#ending);
    this.#isFinished = true;
    this.#alarm.stop();
    for (const [resolve, reject] of this.#closing.splice(0)) this.#error ? reject(this.#error) : resolve();
  }

  #settle(request, error, result) {
    this.#runs.get(request).settle(error, result);
    this.#runs.delete(request);
  }

  #end(stream, error, positions) {
    this.#subscriptions.get(stream)?.end(error, positions);
    this.#subscriptions.delete(stream);
  }

  #request(number, signal) {
    const run = new Run(() => this.#do(() => this.#core.cancel(now(), number)), signal);
    this.#runs.set(number, run);
    this.#work();
    return run;
  }

  /** Return when everything has ended, however. */
  #over() {
    return this.closed().catch(() => {});
  }

  /** Why the client has ended. */
  get #ending() {
    return this.#error ?? new Stopped("the client was closed");
  }
}
