// A small server of the kind that people move from: ws for clients, Redis between processes, one channel for each event type.
// PORT, REDIS_PORT and TOKEN come from the environment. POST / publishes {eventType, data}.
"use strict";

const http = require("node:http");
const net = require("node:net");
const { WebSocketServer } = require("ws");

const { PORT, REDIS_PORT, TOKEN } = process.env;
const PREFIX = "nexus:events:";

// As much of Redis's protocol as it takes: commands out; arrays, texts and numbers in.
class Redis {
  constructor(onReply) {
    this.pending = Buffer.alloc(0);
    this.socket = net.connect(Number(REDIS_PORT), "127.0.0.1");
    this.socket.on("data", (data) => {
      this.pending = Buffer.concat([this.pending, data]);
      for (let found; (found = parse(this.pending, 0)); this.pending = this.pending.subarray(found.end)) onReply(found.value);
    });
  }

  send(...words) {
    const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    this.socket.write(`*${words.length}\r\n${parts.join("")}`);
  }
}

function parse(data, start) {
  const line = data.indexOf("\r\n", start);
  if (line < 0) return null;
  const kind = String.fromCharCode(data[start]);
  const head = data.toString("utf8", start + 1, line);
  if (kind === "$") {
    const end = line + 2 + Number(head);
    return end + 2 <= data.length ? { value: data.toString("utf8", line + 2, end), end: end + 2 } : null;
  }
  if (kind !== "*") return { value: head, end: line + 2 };
  const value = [];
  let end = line + 2;
  for (let count = Number(head); count > 0; count -= 1) {
    const found = parse(data, end);
    if (!found) return null;
    value.push(found.value);
    end = found.end;
  }
  return { value, end };
}

const subscribers = new Map(); // event type -> sockets
const waiting = []; // what to do once Redis has confirmed a subscription, in order

const events = new Redis((reply) => {
  const [kind, channel, data] = reply;
  if (kind === "subscribe") return waiting.shift()();
  const eventType = channel.slice(PREFIX.length);
  for (const socket of subscribers.get(eventType) ?? []) {
    socket.send(JSON.stringify({ type: "event", eventType, data: JSON.parse(data) }));
  }
});
const commands = new Redis(() => {});

const server = http.createServer((request, response) => {
  let body = "";
  request.on("data", (data) => (body += data));
  request.on("end", () => {
    const { eventType, data } = JSON.parse(body);
    commands.send("PUBLISH", PREFIX + eventType, JSON.stringify(data));
    response.end();
  });
});

new WebSocketServer({ server }).on("connection", (socket, request) => {
  if (new URL(request.url, "http://localhost").searchParams.get("token") !== TOKEN) return socket.close(1008, "Unauthorized");
  socket.send(JSON.stringify({ type: "connected", timestamp: new Date().toISOString() }));
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    if (message.type !== "subscribe") return;
    for (const type of message.events) {
      subscribers.set(type, (subscribers.get(type) ?? new Set()).add(socket));
      waiting.push(() => {});
      events.send("SUBSCRIBE", PREFIX + type);
    }
    waiting[waiting.length - 1] = () => socket.send(JSON.stringify({ type: "subscribed", events: message.events }));
  });
  socket.on("close", () => subscribers.forEach((sockets) => sockets.delete(socket)));
});

server.listen(Number(PORT), "127.0.0.1");
