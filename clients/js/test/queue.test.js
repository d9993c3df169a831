/** The bounded queue of a subscription, and its positions. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Queue } from "../src/core/queue.js";
import { Event, Gap } from "../src/events.js";
import { Fifo } from "../src/fifo.js";

const event = (type, offset) => new Event(type, offset, `e:${offset}`);

const drained = (queue) => {
  const items = [];
  for (let item; (item = queue.take()) !== undefined; ) items.push(item);
  return items;
};

test("a full queue drops the newest and tells one gap for each type behind those that wait", () => {
  const queue = new Queue(2);
  queue.put(event("a", 1));
  queue.put(event("b", 1));
  queue.put(event("a", 2));
  queue.put(event("a", 3));
  queue.put(new Gap("b", "server", "e:7", "e:1"));
  assert.equal(queue.dropped, 3);
  assert.equal(queue.length, 4);
  assert.deepEqual(queue.positions({ a: "e:3", b: "e:7" }), { a: "e:0", b: "e:0" });
  assert.equal(queue.take().data, 1);
  assert.deepEqual(queue.positions({ a: "e:3", b: "e:7" }), { a: "e:1", b: "e:0" });
  queue.put(event("a", 4)); // live again
  assert.deepEqual(drained(queue), [
    event("b", 1),
    new Gap("a", "overflow", "e:3", "e:1"),
    new Gap("b", "overflow", "e:7", "e:1"),
    event("a", 4),
  ]);
  assert.deepEqual(queue.positions({ a: "e:4", b: "e:7" }), { a: "e:4", b: "e:7" });
});

test("a gap from an unknown position leaves none, an event without one changes none", () => {
  const queue = new Queue();
  queue.put(new Gap("a", "reconnect", "e:5", null));
  queue.put(new Event("b", 1));
  assert.deepEqual(queue.positions({ a: "e:5" }), {});
  drained(queue);
  assert.deepEqual(queue.positions({ a: "e:5" }), { a: "e:5" });
});

test("a type may have any name", () => {
  const queue = new Queue();
  queue.put(event("__proto__", 2));
  const positions = queue.positions(JSON.parse('{"__proto__": "e:2"}'));
  assert.deepEqual(Object.entries(positions), [["__proto__", "e:1"]]);
});

test("first in, first out, however they alternate", () => {
  const fifo = new Fifo();
  const wanted = [];
  const taken = [];
  for (let number = 0; number < 1000; number++) {
    fifo.push(number);
    wanted.push(number);
    if (number % 3 === 0) taken.push(fifo.shift());
    assert.deepEqual([...taken, ...fifo].length, wanted.length);
  }
  while (fifo.length) taken.push(fifo.shift());
  assert.deepEqual(taken, wanted);
  assert.equal(fifo.shift(), undefined);
});
