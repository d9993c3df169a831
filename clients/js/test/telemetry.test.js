/** Samples on their way into a spool that fails for a while, and the news of them. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { MemorySpool, RequestError, Stopped } from "../src/index.js";
import { Telemetry } from "../src/telemetry.js";

class Faulty extends MemorySpool {
  broken = new Set();
  calls = [];

  #try(name) {
    this.calls.push(name);
    if (this.broken.has(name)) throw new Error("disk full");
  }

  open() {
    this.#try("open");
    super.open();
  }

  add(samples) {
    this.#try("add");
    return super.add(samples);
  }

  next(limit) {
    this.#try("next");
    return super.next(limit);
  }

  remove(ids) {
    this.#try("remove");
    super.remove(ids);
  }
}

function made() {
  const spool = new Faulty();
  const told = { spooled: 0, batches: [], problems: [] };
  const telemetry = new Telemetry(spool, {
    spooled: () => told.spooled++,
    batch: (samples) => told.batches.push(samples.map(({ id }) => id)),
    report: (error) => told.problems.push(`${error.name}: ${error.message}`),
  });
  return { spool, told, telemetry };
}

const sample = (id) => ({ id, agent: "a-1", timestamp: "1970-01-01T00:00:00.000Z", metrics: "{}" });

test("samples of one turn are added together, before the spool is open once it is", async () => {
  const { spool, told, telemetry } = made();
  const early = telemetry.add(sample("1"));
  await telemetry.open();
  assert.equal((await early).id, "1");
  await Promise.all(["2", "3", "4"].map((id) => telemetry.add(sample(id))));
  assert.deepEqual(spool.calls, ["open", "add", "add"]);
  assert.equal(told.spooled, 2);
  await telemetry.fetch(9);
  assert.deepEqual(told.batches, [["1", "2", "3", "4"]]);
});

test("what became of samples", async () => {
  const { telemetry } = made();
  await telemetry.open();
  const [one, two, three] = await Promise.all(["1", "2", "3"].map((id) => telemetry.add(sample(id))));
  const emptied = telemetry.emptied();
  telemetry.settle(["1"], null);
  telemetry.settle(["2"], new RequestError("forbidden", "no"));
  await one.stored;
  await assert.rejects(two.stored, { code: "forbidden" });
  await telemetry.close(new Stopped("over"));
  await assert.rejects(three.stored, { name: "Stopped" });
  await assert.rejects(telemetry.add(sample("4")), { name: "Stopped" });
  await emptied;
});

test("a full disk is told and survived", async () => {
  const { spool, told, telemetry } = made();
  await telemetry.open();
  spool.broken.add("add");
  await assert.rejects(telemetry.add(sample("1")), { name: "SpoolError", message: /disk full/ });
  spool.broken.clear();
  const second = await telemetry.add(sample("2"));
  spool.broken.add("next");
  mock.timers.enable({ apis: ["setTimeout"] });
  await telemetry.fetch(9);
  assert.deepEqual(told.problems, ["SpoolError: the spool failed: disk full"]);
  spool.broken.clear();
  mock.timers.tick(5000);
  mock.timers.reset();
  await turn();
  assert.deepEqual(told.batches, [["2"]]);
  spool.broken.add("remove");
  telemetry.settle(["2"], null);
  await second.stored;
  await turn();
  assert.equal(told.problems.length, 2);
  assert.equal(spool.length, 1);
  spool.broken.clear();
  const third = await telemetry.add(sample("3"));
  telemetry.settle(["3"], null);
  await third.stored;
  await telemetry.emptied();
  assert.equal(spool.length, 0);
});

test("a spool that cannot be opened refuses every sample", async () => {
  const { spool, told, telemetry } = made();
  spool.broken.add("open");
  const early = telemetry.add(sample("1"));
  await telemetry.open();
  assert.deepEqual(told.problems, ["SpoolError: the spool failed: disk full"]);
  await assert.rejects(early, { name: "SpoolError" });
  await assert.rejects(telemetry.add(sample("2")), { name: "SpoolError" });
  await telemetry.close(new Stopped("over"));
});

test("those that wait for a slow spool are bounded", async () => {
  const { spool, telemetry } = made();
  const first = Array.from({ length: 10_000 }, (_, number) => telemetry.add(sample(String(number))));
  let isLate = true;
  const late = telemetry.add(sample("late")).finally(() => (isLate = false));
  await turn();
  assert.ok(isLate);
  await telemetry.open();
  await Promise.all(first);
  await late;
  assert.deepEqual(spool.calls, ["open", "add", "add"]);
});
