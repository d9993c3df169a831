/** The spool in memory, and the samples of an application. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { IndexedDBSpool, MemorySpool } from "../src/index.js";
import { makeSample } from "../src/samples.js";

const sample = (id) => makeSample(id, "a-1", { n: 1 });
const idsOf = (samples) => samples.map(({ id }) => id);

test("samples are given once, until the spool is opened again", () => {
  const spool = new MemorySpool();
  spool.open();
  assert.deepEqual(spool.add(["1", "2", "3"].map(sample)), []);
  assert.deepEqual(idsOf(spool.next(2)), ["1", "2"]);
  assert.deepEqual(idsOf(spool.next(2)), ["3"]);
  assert.deepEqual(spool.next(2), []);
  spool.remove(["2", "unknown"]);
  assert.equal(spool.length, 2);
  assert.throws(() => spool.open(), { name: "SpoolError" });
  spool.close();
  spool.open();
  assert.deepEqual(idsOf(spool.next(9)), ["1", "3"]);
});

test("the oldest are dropped, by number and by size", () => {
  const few = new MemorySpool({ samples: 2 });
  few.open();
  few.add(["1", "2"].map(sample));
  assert.deepEqual(few.add(["3"].map(sample)), ["1"]);
  assert.deepEqual(idsOf(few.next(9)), ["2", "3"]);
  assert.deepEqual(few.add(["4", "5", "6"].map(sample)), ["2", "3", "4"]);
  assert.equal(few.dropped, 4);
  const small = new MemorySpool({ size: 400 });
  small.open();
  assert.deepEqual(small.add([makeSample("1", "a-1", { text: "x".repeat(200) }), sample("2")]), []);
  assert.deepEqual(small.add([sample("3"), sample("4")]), ["1"]);
  assert.throws(() => new MemorySpool({ samples: 0 }), { name: "TypeError" });
});

test("what a sample may hold", () => {
  const made = makeSample("1", "a-1", { cpu: 1.5, up: true, disk: { free: 2 ** 62, name: "sda" } }, new Date(0));
  assert.deepEqual(made, {
    id: "1",
    agent: "a-1",
    timestamp: "1970-01-01T00:00:00.000Z",
    metrics: '{"cpu":1.5,"up":true,"disk":{"free":4611686018427388000,"name":"sda"}}',
  });
  const refused = [
    [null, /^metrics: expected an object/],
    [{}, /^metrics: must not be empty/],
    [{ a: {} }, /^metrics\.a: must not be empty/],
    [{ "": 1 }, /^metrics: a name/],
    [{ a: { b: null } }, /^metrics\.a\.b: .* not null/],
    [{ a: [1] }, /^metrics\.a: .* not a list/],
    [{ a: undefined }, /^metrics\.a: .* not undefined/],
    [{ a: 1n }, /^metrics\.a: .* not bigint/],
    [{ a: NaN }, /^metrics\.a: must be finite/],
    [{ a: 2 ** 63 }, /^metrics\.a: must fit 64 bits/],
  ];
  for (const [metrics, message] of refused) assert.throws(() => makeSample("1", "a-1", metrics), { name: "TypeError", message });
  assert.throws(() => makeSample("1", null, { a: 1 }), { message: /^agent: give/ });
  assert.throws(() => makeSample("1", "a b", { a: 1 }), { message: /^agent: / });
  assert.throws(() => makeSample("1", "a", { a: 1 }, new Date(NaN)), { message: /^at: / });
});

test("where there is no IndexedDB", async () => {
  await assert.rejects(new IndexedDBSpool().open({}), { name: "SpoolError", message: /no IndexedDB/ });
  assert.throws(() => new IndexedDBSpool(""), { name: "TypeError", message: /^name: / });
});
