/** Samples of telemetry as the application gives them. */

import { checkName } from "./core/matching.js";

const LARGEST = 2 ** 63;
const FRACTIONAL = 1e21; // from here on JSON writes a number with an exponent, which is no integer for the server

/**
 * Return a sample of this agent, measured at that `Date` (undefined: now). Metrics are finite numbers, booleans, strings, and
 * objects of these. Throw `TypeError`, naming the member, for others.
 */
export function makeSample(id, agent, metrics, at = new Date()) {
  if (agent === null || agent === undefined) throw new TypeError("agent: give the client or the sample an agent");
  checkName(agent, "agent");
  if (!(at instanceof Date) || Number.isNaN(at.getTime())) throw new TypeError("at: expected a valid Date");
  check(metrics, "metrics");
  return { id, agent, timestamp: at.toISOString(), metrics: JSON.stringify(metrics) };
}

function check(metrics, member) {
  const isObject = typeof metrics === "object" && metrics !== null && !Array.isArray(metrics);
  if (!isObject) throw new TypeError(`${member}: expected an object`);
  const members = Object.entries(metrics);
  if (!members.length) throw new TypeError(`${member}: must not be empty`);
  for (const [name, value] of members) {
    const path = `${member}.${name}`;
    if (!name) throw new TypeError(`${member}: a name must not be empty`);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      check(value, path);
    } else if (!["number", "boolean", "string"].includes(typeof value)) {
      const found = value === null ? "null" : Array.isArray(value) ? "a list" : typeof value;
      throw new TypeError(`${path}: expected a number, a boolean, a string or an object, not ${found}`);
    } else if (typeof value === "number" && !Number.isFinite(value)) {
      throw new TypeError(`${path}: must be finite`);
    } else if (Number.isInteger(value) && Math.abs(value) < FRACTIONAL && (value >= LARGEST || value < -LARGEST)) {
      throw new TypeError(`${path}: must fit 64 bits`);
    }
  }
}
