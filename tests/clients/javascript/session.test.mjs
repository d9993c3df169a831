// The client on Node against a real server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { CommandFailed, Event, Gap, MemorySpool, Nexus } from "../../../clients/js/src/index.js";
import { proxyOf } from "./proxy.mjs";
import { agentToken, failure, hasten, make, take, token, until, url, WebSocket } from "./world.mjs";

test("events: patterns, filters, positions, the end of a stream", async () => {
  const nexus = make();
  const all = nexus.subscribe(["first.*", "first.deep.**"]);
  const some = nexus.subscribe("first.*", { where: { n: { gt: 1 } } });
  await Promise.all([all.accepted(), some.accepted()]);
  for (const n of [1, 2]) await nexus.publish("first.a", { n });
  assert.deepEqual((await take(all, 2)).map(({ data }) => data.n), [1, 2]);
  const [event] = await take(some, 1);
  assert.ok(event instanceof Event);
  assert.deepEqual([event.type, event.data], ["first.a", { n: 2 }]);
  assert.deepEqual(some.positions, { "first.a": event.position });
  some.close();
  assert.deepEqual(await some.next(), { value: undefined, done: true });

  await nexus.publish("first.a", { n: 3 });
  for await (const { data } of all) {
    assert.equal(data.n, 3);
    break; // closes it
  }
  assert.equal((await all.next()).done, true);
  const later = nexus.subscribe("first.*", { since: some.positions });
  assert.deepEqual((await take(later, 1)).map(({ data }) => data.n), [3]);

  const controller = new AbortController();
  const watching = nexus.subscribe("first.*", { signal: controller.signal });
  const next = watching.next();
  controller.abort();
  assert.equal((await next).done, true);
  assert.throws(() => nexus.subscribe("first.*", { signal: controller.signal }), { name: "AbortError" });
  assert.throws(() => nexus.subscribe("first.**.x"), { name: "TypeError", message: /no pattern/ });
  assert.throws(() => nexus.subscribe("a", { where: { b: { in: 1 } } }), { name: "TypeError", message: /where\.b\.in/ });
  await nexus.close();
  assert.deepEqual(await later.next(), { value: undefined, done: true });
  assert.throws(() => nexus.subscribe("first.*"), { name: "Stopped" });
});

test("commands: results, progress, failures, cancellation", async () => {
  const nexus = make({ agent: "a-1" });
  const problems = [];
  nexus.on("error", (problem) => problems.push(problem));
  let cancelled;
  nexus.command("echo", async (call, { text }) => {
    await call.progress({ half: text });
    return { text, caller: call.caller, agent: call.agent, attempt: call.attempt, time: call.remaining() > 1 };
  });
  nexus.command("bare", (_call, parameters) => parameters);
  nexus.command("fail", () => {
    throw new CommandFailed("no space left");
  });
  nexus.command("break", () => {
    throw new Error("a secret");
  });
  nexus.command("circle", () => {
    const circle = {};
    return (circle.circle = circle);
  });
  nexus.command("wait", (call) => new Promise((_, reject) => {
    call.progress();
    call.signal.addEventListener("abort", () => reject((cancelled = call.signal.reason)));
  }));
  await nexus.connected();
  const call = (name, options) => nexus.call(name, { target: "a-1", ...options });

  const run = call("echo", { parameters: { text: "hi" } });
  const steps = [];
  for await (const step of run.progress) steps.push(step);
  assert.deepEqual(steps, [{ agent: "a-1", data: { half: "hi" } }]);
  assert.deepEqual(await run, { text: "hi", caller: "admin", agent: null, attempt: 1, time: true });
  assert.deepEqual(await call("bare"), {});
  const several = await nexus.call("bare", { target: ["a-1", "a-9"], parameters: { n: 1 } });
  assert.deepEqual(several.map(({ agentId, status }) => [agentId, status]), [["a-1", "success"], ["a-9", "error"]]);
  assert.deepEqual(nexus.user, { subject: "admin", role: "admin" });

  let release;
  nexus.command("gate", () => new Promise((resolve) => (release = resolve)));
  const gated = nexus.call("gate", { target: ["a-1", "a-9"] });
  const outcomes = gated.outcomes[Symbol.asyncIterator]();
  const { value: first } = await outcomes.next();
  assert.deepEqual([first.agentId, first.code], ["a-9", "agent_offline"]);
  while (!release) await new Promise(setImmediate);
  release("open");
  assert.deepEqual((await outcomes.next()).value, { agentId: "a-1", status: "success", result: "open" });
  assert.equal((await outcomes.next()).done, true);
  assert.deepEqual((await gated)[1], first);

  const failed = await failure(call("fail"));
  assert.equal(failed.name, "CommandError");
  assert.match(failed.message, /no space left/);
  for (const name of ["break", "circle"]) {
    const broken = await failure(call(name));
    assert.match(broken.message, new RegExp(`internal error in handler ${name}`));
    assert.ok(!broken.message.includes("secret"));
  }
  assert.deepEqual(problems.map(({ kind, error }) => [kind, error.name]), [["handler", "Error"], ["handler", "TypeError"]]);

  const controller = new AbortController();
  const long = call("wait", { signal: controller.signal });
  for await (const _ of long.progress) controller.abort();
  assert.equal((await failure(long)).name, "CommandCancelled");
  await until(() => cancelled);
  assert.equal(cancelled.name, "AbortError");
  const short = call("wait", { timeout: 1 });
  assert.equal((await failure(short)).name, "CommandTimeout");
  nexus.forgetCommand("echo");
  await until(async () => (await failure(call("echo"))).code === "no_such_command");
});

test("telemetry is stored by the thousand, and refused one by one", async () => {
  const nexus = make({ token: agentToken, agent: "a-1" });
  const samples = await Promise.all(Array.from({ length: 1200 }, (_, n) => nexus.telemetry({ n, disk: { used: n / 10 } })));
  await Promise.all(samples.map(({ stored }) => stored));
  assert.equal(nexus.stats.stored, 1200);
  assert.ok(nexus.stats.batches <= 6);
  const { message } = await failure(nexus.telemetry({ cpu: null }));
  assert.match(message, /metrics\.cpu/);
  const quiet = nexus.on("error", () => {});
  const other = await nexus.telemetry({ cpu: 1 }, { agent: "a-2", at: new Date(0) });
  assert.equal((await failure(other.stored)).code, "forbidden");
  quiet();
  await nexus.close();
  assert.equal((await failure(nexus.telemetry({ cpu: 1 }))).name, "Stopped");
});

test("a cut connection: nothing is lost, nothing twice, never two sockets", async () => {
  const proxy = await proxyOf(url);
  const nexus = hasten(make({ agent: "a-3" }, proxy.url));
  const far = make({ agent: "a-4" });
  let ran = 0;
  const running = [];
  nexus.command("once", async () => {
    ran++;
    await new Promise((resolve) => running.push(resolve));
    return "done";
  });
  const events = nexus.subscribe("cut.**");
  await events.accepted();
  const run = far.call("once", { target: "a-3", retries: 3, ttl: 30 });
  await until(() => ran === 1);
  const back = nexus.call("once", { target: "a-3", retries: 3, ttl: 30 });
  await until(() => ran === 2);
  const seen = [];
  for (let round = 0; round < 5; round++) {
    await far.publish("cut.a", round);
    if (round % 2) proxy.cut();
    const sample = await nexus.telemetry({ round });
    for (const item of await take(events, 1)) seen.push(item instanceof Gap ? item : item.data);
    await sample.stored;
  }
  assert.deepEqual(seen, [0, 1, 2, 3, 4]);
  assert.equal(proxy.most, 1);
  assert.equal(nexus.stats.connections, 3);
  for (const end of running) end();
  assert.deepEqual(await Promise.all([run, back]), ["done", "done"]);
  assert.equal(ran, 2);
  proxy.close();
});

test("while there is no server: what waits, for how long", async () => {
  const proxy = await proxyOf(url);
  proxy.refuses = true;
  const states = [];
  const nexus = make({ agent: "a-5", spool: new MemorySpool({ samples: 2 }) }, proxy.url);
  nexus.on("state", ({ state, retryIn, reason }) => states.push([state, typeof retryIn, reason]));
  const lost = await failure(nexus.publish("away.a", 1, { timeout: 0.05 }));
  assert.deepEqual([lost.name, lost.maybeSent], ["NotConnected", false]);
  const samples = [];
  for (const n of [1, 2, 3]) samples.push(await nexus.telemetry({ n }));
  assert.equal((await failure(samples[0].stored)).name, "SampleDropped");
  await until(() => states.length >= 2);
  assert.deepEqual(states[0], ["connecting", "object", ""]);
  assert.deepEqual(states[1].slice(0, 2), ["waiting", "number"]);
  assert.ok(states[1][2]);
  const published = nexus.publish("away.a", 2);
  proxy.refuses = false;
  hasten(nexus).woke();
  assert.match(await published, /:\d+$/);
  await samples[2].stored;
  proxy.close();
});

test("a refused token stops the client; a function is asked for another one", async () => {
  const problems = [];
  const refused = make({ token: "not/the=token" });
  refused.on("error", ({ kind, message }) => problems.push([kind, message]));
  const waiting = refused.publish("a.b", 1);
  const error = await failure(refused.connected());
  assert.equal(error.name, "Unauthorized");
  assert.equal(await failure(waiting), error);
  assert.equal(await failure(refused.closed()), error);
  assert.equal(problems.length, 1);
  assert.equal(problems[0][0], "stopped");
  assert.ok(!inspect([problems, error, refused], { depth: 9, showHidden: true }).includes("not/the=token"));
  await refused.close();

  let asked = 0;
  const renewing = hasten(make({ token: async () => (asked++ ? token : "an-old-token") }));
  await renewing.connected();
  assert.equal(asked, 2);
  const failing = make({
    token: () => {
      throw new Error("a secret");
    },
  });
  const told = [];
  failing.on("error", (problem) => told.push(problem));
  await until(() => failing.state === "waiting");
  assert.deepEqual(told, [{ kind: "token", message: "no token could be obtained: Error", error: null }]);
});

test("a token that no subprotocol can carry goes into the query", async () => {
  const nexus = make({ token: agentToken });
  assert.match(agentToken, /\//);
  await nexus.connected();
});

test("wrong options are refused by name", () => {
  const options = { token, WebSocket };
  assert.throws(() => new Nexus("ftp://a", options), { name: "TypeError", message: /^url: / });
  assert.throws(() => new Nexus(url, { ...options, token: "a b" }), { name: "TypeError", message: /^token: / });
  assert.throws(() => new Nexus(url, { ...options, agent: "a..b" }), { name: "TypeError", message: /^agent: / });
  assert.throws(() => new Nexus(url, { ...options, WebSocket: null }), { name: "TypeError", message: /^WebSocket: .*ws$/ });
});
