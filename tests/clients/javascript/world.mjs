// What the tests on Node have in common. SOCKET says whose WebSocket: `ws`, or Node's own (`global`).
import { afterEach } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import WS from "ws";
import { Nexus } from "../../../clients/js/src/index.js";

export const { NEXUS_URL: url, NEXUS_TOKEN: token, NEXUS_AGENT: agentToken, NEXUS_WSS: wss, SOCKET = "ws" } = process.env;
export const WebSocket = SOCKET === "ws" ? WS : globalThis.WebSocket;

// So that a next attempt comes late, unless a test hastens it: what is asserted is about the first.
Math.random = () => 0.9;

const PATIENCE = 20; // seconds

const made = [];

export function make(options = {}, address = url) {
  const nexus = new Nexus(address, { token, WebSocket, ...options });
  made.push(nexus);
  return nexus;
}

// Also after a failure, as Node would stay alive otherwise.
afterEach(() => Promise.all(made.splice(0).map((nexus) => nexus.close({ timeout: 0 }))));

// Wait until `true()` is true.
export async function until(isTrue, what = String(isTrue)) {
  for (const end = performance.now() + PATIENCE * 1000; !(await isTrue()); await pause(10)) {
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`);
  }
}

// The next `count` items of a stream.
export async function take(stream, count) {
  const items = [];
  while (items.length < count) items.push((await stream.next()).value);
  return items;
}

// What a promise is rejected with.
export async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("it did not fail");
}

// Let a client try again at once whenever it would wait.
export function hasten(nexus) {
  nexus.on("state", ({ state }) => {
    if (state === "waiting") queueMicrotask(() => nexus.woke());
  });
  return nexus;
}
