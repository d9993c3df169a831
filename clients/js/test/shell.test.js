/** The parts around the core, by a clock that is turned by hand and a socket that does what it is told. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { checkToken, opening, parseAddress } from "../src/address.js";
import { Alarm, now } from "../src/clock.js";
import { newId } from "../src/ids.js";
import { Nexus } from "../src/index.js";
import { Listeners } from "../src/listeners.js";
import { Socket } from "../src/socket.js";
import { watch } from "../src/waking.js";

/** Timers, `Date.now` and `performance.now` stand still until `turn(seconds)`. */
function handClock(context) {
  const clock = { monotonic: 1000, wall: 0 };
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  context.after(() => mock.reset());
  context.after(() => mock.timers.reset());
  mock.method(performance, "now", () => clock.monotonic);
  mock.method(Date, "now", () => clock.wall);
  clock.turn = (seconds) => {
    clock.monotonic += seconds * 1000;
    clock.wall += seconds * 1000;
    mock.timers.tick(seconds * 1000);
  };
  return clock;
}

test("addresses", () => {
  assert.equal(parseAddress("https://fleet.example"), "wss://fleet.example/api/v1/events");
  assert.equal(parseAddress("http://[::1]:3000/"), "ws://[::1]:3000/api/v1/events");
  assert.equal(parseAddress("ws://a/b?c=d"), "ws://a/b?c=d");
  const refused = ["fleet.example", "ftp://a", "http://", "http://a:b@c", "http://a/#b", "http://a:99999"];
  for (const url of refused) assert.throws(() => parseAddress(url), { name: "TypeError", message: /^url: / }, url);
  assert.throws(() => parseAddress("x?token=secret"), ({ message, input }) => !message.includes("secret") && !input);
});

test("where the token goes", () => {
  assert.deepEqual(opening("ws://a/b", null), ["ws://a/b", ["nexus.v1.json"]]);
  assert.deepEqual(opening("ws://a/b", "a.b-c_d"), ["ws://a/b", ["nexus.v1.json", "nexus.bearer.a.b-c_d"]]);
  assert.deepEqual(opening("ws://a/b", "a/b="), ["ws://a/b?token=a%2Fb%3D", ["nexus.v1.json"]]);
  assert.deepEqual(opening("ws://a/b?c=d", "a&b/"), ["ws://a/b?c=d&token=a%26b%2F", ["nexus.v1.json"]]);
  assert.equal(checkToken(undefined), null);
  for (const token of ["", "a b", "ä", 7]) {
    assert.throws(() => checkToken(token), ({ name, message }) => name === "TypeError" && !message.includes("ä"));
  }
});

test("an alarm rings in time, once, and not after it was stopped", (context) => {
  const clock = handClock(context);
  let rings = 0;
  const alarm = new Alarm(() => rings++);
  alarm.set(now() + 2);
  alarm.set(now() + 5); // may ring early
  alarm.set(now() + 1);
  clock.turn(0.999);
  assert.equal(rings, 0);
  clock.turn(0.002);
  assert.equal(rings, 1);
  clock.turn(9);
  assert.equal(rings, 1);
  alarm.set(now() + 1);
  alarm.set(null);
  clock.turn(2);
  alarm.set(now() - 1);
  clock.turn(0);
  assert.equal(rings, 2);
  alarm.set(now() + 1e9); // longer than a timer can wait
  clock.turn(1);
  assert.equal(rings, 2);
  alarm.stop();
});

test("a leap of the wall clock shows that the machine slept", (context) => {
  const clock = handClock(context);
  let woken = 0;
  const end = watch(() => woken++);
  clock.turn(60);
  assert.equal(woken, 0);
  clock.wall += 3_600_000;
  clock.turn(5);
  assert.equal(woken, 1);
  clock.turn(60);
  assert.equal(woken, 1);
  end();
  clock.wall += 3_600_000;
  clock.turn(60);
  assert.equal(woken, 1);
});

/** A browser's WebSocket, on which nothing happens by itself. */
class Double {
  readyState = 0;
  bufferedAmount = 0;
  calls = [];

  constructor(url, protocols) {
    this.made = [url, protocols];
    Double.last = this;
  }

  open() {
    this.readyState = 1;
    this.onopen();
  }

  send(text) {
    this.calls.push(["send", text]);
  }

  close(...given) {
    this.readyState = 2;
    this.calls.push(["close", ...given]);
  }
}

function connected() {
  const told = [];
  const tell = (name) => (...what) => told.push([name, ...what]);
  const names = ["opened", "received", "binary", "lost", "refused"];
  const socket = new Socket(Object.fromEntries(names.map((name) => [name, tell(name)])), Double, "ws://a", ["p"]);
  return { socket, told, double: Double.last };
}

test("whose close it was", () => {
  const { told, double } = connected();
  double.open();
  double.onmessage({ data: "text" });
  double.onmessage({ data: new ArrayBuffer(1) });
  double.onclose({ code: 4003, reason: "Replaced" });
  assert.deepEqual(told, [["opened"], ["received", "text"], ["binary"], ["lost", 4003, "Replaced"]]);

  const ours = connected();
  ours.double.open();
  ours.socket.bidFarewell(1000, "");
  ours.socket.say("nothing more");
  ours.double.onclose({ code: 1000, reason: "" });
  assert.deepEqual(ours.told.at(-1).slice(0, 2), ["lost", 1006]);
  assert.deepEqual(ours.double.calls, [["close", 1000, ""]]);

  const violated = connected();
  violated.double.open();
  violated.socket.bidFarewell(1002, "no JSON");
  assert.deepEqual(violated.double.calls, [["close", 4000, "no JSON"]]); // 1002 is not for applications
});

test("a dropped socket that does not end is given up, and not heard any more", (context) => {
  const clock = handClock(context);
  const { socket, told, double } = connected();
  double.open();
  socket.abort();
  socket.abort();
  assert.deepEqual(double.calls, [["close"], ["close"]]);
  clock.turn(2.9);
  assert.deepEqual(told, [["opened"]]);
  clock.turn(0.2);
  assert.deepEqual(told, [["opened"], ["lost", 1006, "no connection"]]);
  double.onmessage({ data: "late" });
  double.onclose({ code: 1006, reason: "" });
  assert.equal(told.length, 2);
});

test("a socket that never opened was refused; its error may come without a close", (context) => {
  const clock = handClock(context);
  const refusal = { status: null, retryAfter: null, detail: "ECONNREFUSED", certificate: false };
  for (const ends of [(double) => double.onclose({ code: 1006, reason: "" }), () => clock.turn(0.001)]) {
    const { told, double } = connected();
    double.onerror({ error: { cause: { code: "ECONNREFUSED" } } });
    ends(double);
    assert.deepEqual(told, [["refused", refusal]]);
  }
});

test("a client that is closed in the turn in which it was made opens no socket", async () => {
  Double.last = null;
  const nexus = new Nexus("http://a", { WebSocket: Double });
  await nexus.close();
  assert.equal(nexus.state, "closed");
  assert.equal(Double.last, null);
  await assert.rejects(nexus.connected(), { name: "Stopped" });
  await nexus.closed();
});

test("a listener that fails stops nobody else, and is reported", async () => {
  const listeners = new Listeners();
  const heard = [];
  listeners.add("error", ({ kind, error }) => heard.push([kind, error.message]));
  listeners.add("state", () => {
    throw new Error("one");
  });
  listeners.add("state", async () => {
    throw new Error("two");
  });
  const off = listeners.add("state", (state) => heard.push(state));
  listeners.tell("state", "a");
  await null;
  await null;
  off();
  listeners.tell("state", "b");
  assert.deepEqual(heard.slice(0, 3), [["listener", "one"], "a", ["listener", "two"]]);
  assert.ok(!heard.includes("b"));
  assert.throws(() => listeners.add("open", () => {}), { name: "TypeError", message: /^open: / });
});

test("what nobody listens to goes to the console", () => {
  const said = mock.method(console, "error", () => {});
  const error = new Error("why");
  new Listeners().report({ kind: "handler", message: "failed", error });
  assert.deepEqual(said.mock.calls[0].arguments, ["nexus-client: handler: failed", error]);
  said.mock.restore();
});

test("ids are UUIDs, also without randomUUID", () => {
  const form = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
  assert.match(newId(), form);
  const own = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(crypto), "randomUUID");
  Object.defineProperty(crypto, "randomUUID", { value: undefined, configurable: true });
  assert.match(newId(), form);
  assert.notEqual(newId(), newId());
  delete crypto.randomUUID;
  assert.equal(typeof own.value, "function");
});
