// AutobahnJS over WebSocket and RawSocket.
import autobahn from "autobahn";
import WebSocket from "ws";
import { hear, port, realm, say, ticket, topic, url, way } from "./say.mjs";

// Node has one of its own from 22 on. That and a browser's let nobody be killed by an error that is not listened to.
globalThis.WebSocket ??= class extends WebSocket {
  constructor(...words) {
    super(...words);
    this.on("error", () => {});
  }
};
console.warn = console.log = () => {};
const transports = [way === "ws" ? { type: "websocket", url } : { type: "rawsocket", host: "127.0.0.1", port: Number(port) }];
const shown = { authmethods: ["ticket"], authid: "somebody", onchallenge: () => ticket };
const retry = { max_retries: -1, initial_retry_delay: 0.3, retry_delay_growth: 1, max_retry_delay: 0.5 };
const connection = new autobahn.Connection({ realm, transports, ...shown, ...retry });

connection.onopen = async (session) => {
  await session.subscribe(topic, ([word]) => hear(word));
  say({ joined: session.id });
};
connection.onclose = (_reason, { reason, will_retry }) => {
  if (!will_retry) say({ stopped: reason });
};
connection.open();
