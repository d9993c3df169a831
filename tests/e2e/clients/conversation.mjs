// conversation.mjs URL TOKEN CARRIER: one of each thing that an agent and a watcher do. Ends with status 0 if all was as it should be.
import assert from "node:assert/strict";
import { Client } from "./client.mjs";

const [url, token, carrier] = process.argv.slice(2);
const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

const watcher = new Client(url, token, carrier);
const welcome = await watcher.next("connected");
assert.equal(welcome.message, "Connected to Nexus API WebSocket");
assert.match(welcome.timestamp, TIMESTAMP);
assert.ok(welcome.clientId);
const agent = new Client(url, token, carrier);
assert.notEqual((await agent.next("connected")).clientId, welcome.clientId);

watcher.send({ type: "ping", id: 1 });
assert.equal((await watcher.next("pong")).id, 1);

const events = ["telemetry.received", "build.*"];
watcher.send({ type: "subscribe", events, id: "all" });
const subscribed = await watcher.next("subscribed");
assert.deepEqual([subscribed.events, subscribed.id], [events, "all"]);
watcher.send({ type: "subscribe", events: ["task.updated"], filters: { status: "completed" } });
await watcher.next("subscribed");

const metrics = { cpu: 45.2, busy: true, disk: { used: 0.7 } };
agent.send({ type: "telemetry", agentId: "agent-001", metrics });
assert.match((await agent.next("telemetry_ack")).timestamp, TIMESTAMP);
const received = await watcher.next("event");
assert.equal(received.eventType, "telemetry.received");
assert.deepEqual([received.data.agentId, received.data.metrics], ["agent-001", metrics]);

agent.send({ type: "register", agentId: "agent-001", commands: ["deploy"] });
await agent.next("registered");
watcher.send({ type: "command", command: "deploy", parameters: { version: "1.2.3" }, target: "agent-001", id: 2 });
const command = await agent.next("command");
assert.deepEqual([command.command, command.parameters, command.attempt], ["deploy", { version: "1.2.3" }, 1]);
agent.send({ type: "command_progress", commandId: command.commandId, data: "half" });
assert.equal((await watcher.next("command_progress")).data, "half");
agent.send({ type: "command_result", commandId: command.commandId, data: { done: true } });
// The result and the event of it come in no promised order.
const heard = [];
while (heard.length < 2) {
  const message = watcher.messages.shift();
  if (message === undefined) await new Promise((resolve) => (watcher.wake = resolve));
  else if (["command_result", "event"].includes(message.type)) heard.push(message);
}
const result = heard.find(({ type }) => type === "command_result");
assert.deepEqual([result.id, result.status], [2, "success"]);
const { commandId } = command;
assert.deepEqual(result.data, { commandId, command: "deploy", status: "executed", result: { done: true } });
const task = heard.find(({ type }) => type === "event");
assert.deepEqual([task.eventType, task.data.taskId, task.data.status], ["task.updated", commandId, "completed"]);

agent.send({ type: "publish", eventType: "build.done", data: { number: 1 } });
assert.equal((await agent.next("published")).eventType, "build.done");
assert.deepEqual((await watcher.next("event")).data, { number: 1 });
watcher.send({ type: "unsubscribe", events: ["build.*"] });
assert.deepEqual((await watcher.next("unsubscribed")).events, ["build.*"]);
agent.send({ type: "publish", eventType: "build.done", data: { number: 2 } });
await agent.next("published");
agent.send({ type: "telemetry", agentId: "agent-001", metrics: { cpu: 1 } });
assert.equal((await watcher.next("event")).eventType, "telemetry.received", "what was unsubscribed came all the same");

agent.send({ type: "dance" });
assert.equal((await agent.next("error")).message, "Unknown message type: dance");
agent.socket.send("{");
assert.equal((await agent.next("error")).message, "Invalid JSON message");
agent.send({ type: "command", command: "unheard.of" });
assert.match((await agent.next("error")).message, /^Command execution failed: ./);

const stranger = new Client(url, "not-the-token", carrier);
assert.deepEqual(await stranger.closed, [1008, "Unauthorized"]);
const nobody = new Client(url, "", "none");
assert.deepEqual(await nobody.closed, [1008, "Unauthorized"]);
assert.deepEqual(await watcher.leave(), [1000, ""]);
assert.deepEqual(await agent.leave(), [1000, ""]);
