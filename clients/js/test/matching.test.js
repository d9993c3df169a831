/** Patterns and filters: the answers are those of `matching.json`, which the servers are tested against as well. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Filter, checkName, parsePattern } from "../src/core/matching.js";

const cases = JSON.parse(readFileSync(new URL("../../transcripts/matching.json", import.meta.url), "utf8"));

test("patterns", () => {
  for (const { pattern, name, selects } of cases.patterns) {
    assert.equal(parsePattern(pattern).selects(name), selects, `${pattern} ${name}`);
  }
});

test("overlaps", () => {
  for (const { patterns, overlaps } of cases.overlaps) {
    const [one, other] = patterns.map(parsePattern);
    assert.equal(one.overlaps(other), overlaps, patterns.join(" "));
    assert.equal(other.overlaps(one), overlaps, patterns.join(" "));
  }
});

test("malformed patterns and names", () => {
  for (const text of cases.badPatterns) {
    assert.throws(() => parsePattern(text), { name: "TypeError", message: /no pattern/ }, text);
    assert.throws(() => checkName(text, "type"), { name: "TypeError", message: /^type: / }, text);
  }
});

test("filters", () => {
  for (const { where, data, matches } of cases.filters) {
    assert.equal(new Filter(where).matches(data), matches, JSON.stringify({ where, data }));
  }
});

test("malformed filters", () => {
  for (const where of cases.badFilters) {
    assert.throws(() => new Filter(where), { name: "TypeError", message: /^where\.a\.\w+: expected/ }, JSON.stringify(where));
  }
});

test("the key of a filter does not depend on the order of its members", () => {
  const one = new Filter({ a: { gt: 1, lt: 3 }, b: [1, { c: 1, d: 2 }] });
  const other = new Filter({ b: [1, { d: 2, c: 1 }], a: { lt: 3, gt: 1 } });
  assert.equal(one.key, other.key);
  assert.notEqual(new Filter({ a: [1, 2] }).key, new Filter({ a: [2, 1] }).key);
  assert.notEqual(new Filter({ a: {} }).key, new Filter({ a: [] }).key);
});

test("texts are compared by their code points", () => {
  assert.equal(new Filter({ a: { gt: "\uffee" } }).matches({ a: "\u{1f600}" }), true);
  assert.equal(new Filter({ a: { lt: "\u{1f600}" } }).matches({ a: "\uffee" }), true);
});
