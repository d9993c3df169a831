/** Patterns of event types, and filters on event data: the same answers as the server's. */

import { bytes } from "./messages.js";

// White space of Unicode and control characters, beside the three signs that have a meaning.
const WORD = "[^.#*\\x00-\\x20\\x7f-\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+";
const NAME = new RegExp(`^${WORD}(\\.${WORD})*$`, "u");
const PATTERN = new RegExp(`^(\\*\\*|(${WORD}|\\*)(\\.(${WORD}|\\*))*(\\.\\*\\*)?)$`, "u");
const RESERVED = ["nexus.", "wamp."];
const LONGEST = 255; // bytes
const CACHED = 4096; // patterns
const MISSING = Symbol("missing");

const isShort = (text) => text.length <= LONGEST && bytes(text) <= LONGEST;

/** Return the name of an event type, a command or an agent. Throw `TypeError`, naming the member, if it is none. */
export function checkName(text, member) {
  if (typeof text !== "string" || !isShort(text) || !NAME.test(text)) {
    const found = typeof text === "string" ? JSON.stringify(text) : typeof text;
    throw new TypeError(`${member}: ${found} is no name: words joined by single dots, without '#', '*' and white space`);
  }
  return text;
}

/** A pattern: `*` matches one component, `**` at the end one or more. */
export class Pattern {
  #parts;
  #tail;

  constructor(text) {
    const parts = text.split(".");
    this.text = text;
    this.exact = !text.includes("*");
    this.#tail = parts.at(-1) === "**";
    this.#parts = this.#tail ? parts.slice(0, -1) : parts;
  }

  /**
   * Return whether the server delivers events of that type for this pattern. Names under `nexus.` and `wamp.` need a pattern
   * that begins with that word.
   */
  selects(name) {
    if (this.exact) return name === this.text;
    const parts = name.split(".");
    if (RESERVED.some((word) => name.startsWith(word)) && this.#parts[0] !== parts[0]) return false;
    if (this.#tail ? parts.length <= this.#parts.length : parts.length !== this.#parts.length) return false;
    return this.#parts.every((mine, place) => mine === "*" || mine === parts[place]);
  }

  /** Return whether some name may match both. */
  overlaps(other) {
    const mine = this.#parts;
    const theirs = other.#parts;
    if (!this.#tail && (other.#tail ? theirs.length >= mine.length : theirs.length !== mine.length)) return false;
    if (this.#tail && !other.#tail && mine.length >= theirs.length) return false;
    const common = Math.min(mine.length, theirs.length);
    return mine.slice(0, common).every((part, place) => part === "*" || theirs[place] === "*" || part === theirs[place]);
  }
}

const patterns = new Map();

/** Return the pattern. Throw `TypeError` if the text is none. */
export function parsePattern(text) {
  const known = patterns.get(text);
  if (known) return known;
  if (typeof text !== "string" || !isShort(text) || !PATTERN.test(text)) {
    const found = typeof text === "string" ? JSON.stringify(text) : typeof text;
    throw new TypeError(`${found} is no pattern: words joined by dots, '*' for a whole word, '**' only at the end`);
  }
  if (patterns.size >= CACHED) patterns.clear();
  const pattern = new Pattern(text);
  patterns.set(text, pattern);
  return pattern;
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Return whether two JSON values are equal. */
export function equal(value, wanted) {
  if (Array.isArray(wanted)) {
    return Array.isArray(value) && value.length === wanted.length && wanted.every((item, place) => equal(value[place], item));
  }
  if (isObject(wanted)) {
    if (!isObject(value)) return false;
    const members = Object.entries(wanted);
    return (
      Object.keys(value).length === members.length &&
      members.every(([name, member]) => Object.hasOwn(value, name) && equal(value[name], member))
    );
  }
  return value === wanted;
}

/** Return the member of that name, else the one at that dotted path, else `MISSING`. */
function lookup(data, name) {
  if (!isObject(data)) return MISSING;
  if (Object.hasOwn(data, name)) return data[name];
  for (const part of name.split(".")) {
    if (!isObject(data) || !Object.hasOwn(data, part)) return MISSING;
    data = data[part];
  }
  return data;
}

/** Compare numbers, or texts by their code points (JavaScript itself compares UTF-16); NaN if they have no order. */
function compare(value, bound) {
  if (typeof value === "number" && typeof bound === "number") return value - bound;
  if (typeof value !== "string" || typeof bound !== "string") return NaN;
  for (let place = 0; ; place++) {
    if (place >= value.length || place >= bound.length) return value.length - bound.length;
    const mine = value.charCodeAt(place);
    const theirs = bound.charCodeAt(place);
    if (mine !== theirs) return rank(mine) - rank(theirs);
  }
}

// Halves of a pair are above all other code units, since the pair is above U+FFFF.
const rank = (unit) => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit);

const isOrdered = (operand) => typeof operand === "string" || typeof operand === "number";

// Each operator: what its operand must be, and its test of a value that may be missing.
const OPERATORS = {
  gt: ["a number or a string", isOrdered, (value, bound) => compare(value, bound) > 0],
  gte: ["a number or a string", isOrdered, (value, bound) => compare(value, bound) >= 0],
  lt: ["a number or a string", isOrdered, (value, bound) => compare(value, bound) < 0],
  lte: ["a number or a string", isOrdered, (value, bound) => compare(value, bound) <= 0],
  ne: ["any value", () => true, (value, other) => value === MISSING || !equal(value, other)],
  in: ["a list", Array.isArray, (value, choices) => value !== MISSING && choices.some((choice) => equal(value, choice))],
  exists: [
    "true or false",
    (operand) => typeof operand === "boolean",
    (value, wanted) => (value !== MISSING) === wanted,
  ],
  prefix: [
    "a string",
    (operand) => typeof operand === "string",
    (value, prefix) => typeof value === "string" && value.startsWith(prefix),
  ],
};

const isPresentAndEqual = (value, wanted) => value !== MISSING && equal(value, wanted);

/** A compiled filter. Filters with equal `key` ask for the same events. */
export class Filter {
  #tests = [];

  constructor(where) {
    if (!isObject(where)) throw new TypeError("where: expected an object");
    this.key = JSON.stringify(sorted(where));
    for (const [name, wanted] of Object.entries(where)) {
      const words = isObject(wanted) ? Object.keys(wanted) : [];
      if (words.length && words.every((word) => Object.hasOwn(OPERATORS, word))) {
        for (const word of words) {
          const [expected, accepts, test] = OPERATORS[word];
          if (!accepts(wanted[word])) throw new TypeError(`where.${name}.${word}: expected ${expected}`);
          this.#tests.push([name, test, wanted[word]]);
        }
      } else {
        this.#tests.push([name, isPresentAndEqual, wanted]);
      }
    }
  }

  /** Return whether every member of the filter matches the event's data. */
  matches(data) {
    return this.#tests.every(([name, test, operand]) => test(lookup(data, name), operand));
  }
}

/** Return the value as a list form whose JSON does not depend on the order of members. */
function sorted(value) {
  if (Array.isArray(value)) return [0, ...value.map(sorted)];
  if (!isObject(value)) return value;
  return [1, ...Object.keys(value).sort().map((name) => [name, sorted(value[name])])];
}
