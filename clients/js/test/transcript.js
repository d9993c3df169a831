/** Run a transcript of `clients/transcripts` through the JavaScript core. */

import assert from "node:assert/strict";
import { RequestError, Unsent } from "../src/errors.js";
import { Event } from "../src/events.js";
import { Core } from "../src/core/core.js";

const STEP = ["at", "do", "receive", "receiveText", "expect", "deadline", "state", "positions", "user", "returns", "raises", "why"];
// Python's exceptions for wrong arguments.
const RAISED = { ValueError: "TypeError" };

export function coreOf({ random = [0.5], ids, ...options }) {
  let drawn = 0;
  let made = 0;
  const nextRandom = () => random[Math.min(drawn++, random.length - 1)];
  return new Core(options, nextRandom, () => (ids ? ids[made++] : `id-${++made}`));
}

/** Run all steps. Throw with the step if it has other effects than expected. */
export function run(transcript) {
  const core = coreOf(transcript.options ?? {});
  let attempt = 0;
  for (const [place, step] of transcript.steps.entries()) {
    const where = `step ${place}: ${JSON.stringify(step).slice(0, 300)}`;
    const unknown = Object.keys(step).filter((member) => !STEP.includes(member));
    assert.deepEqual(unknown, [], where);
    perform(core, step, attempt, where);
    const found = core.drain().map(plain);
    for (const effect of found) attempt = effect.connect ?? attempt;
    const wanted = step.expect ?? [];
    assert.ok(isSame(found, wanted), `${where}\n  found  ${JSON.stringify(found)}\n  wanted ${JSON.stringify(wanted)}`);
    const deadline = core.deadline();
    if ("deadline" in step) assert.ok(isSame(deadline, step.deadline), `${where}: deadline ${deadline}`);
    if ("state" in step) assert.equal(core.state, step.state, where);
    if ("user" in step) assert.deepEqual(core.user, step.user, where);
    for (const [stream, positions] of Object.entries(step.positions ?? {})) {
      assert.deepEqual(core.positions(Number(stream)), positions, where);
    }
  }
}

function perform(core, step, attempt, where) {
  if ("receive" in step) return core.received(step.at, attempt, JSON.stringify(step.receive));
  if ("receiveText" in step) return core.received(step.at, attempt, step.receiveText);
  const [name, ...given] = step.do;
  let result;
  let raised;
  try {
    result = core[name](step.at, ...(name === "batch" ? [given[0].map(sampleOf)] : given));
  } catch (error) {
    if (!("raises" in step)) throw error;
    raised = error.name;
  }
  assert.equal(raised, RAISED[step.raises] ?? step.raises, where);
  if ("returns" in step) assert.equal(result, step.returns, where);
}

const sampleOf = ({ id, agentId, timestamp, metrics }) => ({ id, agent: agentId, timestamp, metrics: JSON.stringify(metrics) });

/** Return the effect as transcripts write it. */
function plain({ effect, ...members }) {
  switch (effect) {
    case "connect":
      return { connect: members.attempt };
    case "send":
      return { send: JSON.parse(members.text) };
    case "close":
      return { close: members.code };
    case "drop":
      return { drop: true };
    case "state":
      return { state: members.state, ...given({ retryIn: members.retryIn, error: plainError(members.error) }) };
    case "subscribed":
      return { subscribed: members.stream };
    case "deliver": {
      const { data, ...others } = members.item;
      if (!(members.item instanceof Event)) return { deliver: members.stream, gap: given(others) };
      return { deliver: members.stream, event: { ...given(others), data } };
    }
    case "end":
      return { end: members.stream, ...given({ error: plainError(members.error) }) };
    case "broadcast":
      return { broadcast: members.data };
    case "invoke": {
      const { execution, caller, agent, ...others } = members;
      return { invoke: execution, ...others, ...given({ caller, agent }) };
    }
    case "cancelInvocation":
      return { cancelInvocation: members.execution, reason: members.reason };
    case "progress":
      return { progress: members.request, ...given({ agent: members.agent }), data: members.data };
    case "outcome":
      return { outcome: members.request, of: members.outcome };
    case "settle":
      return { settle: members.request, ...given({ result: members.result, error: plainError(members.error) }) };
    case "fetch":
      return { fetch: members.limit };
    case "stored":
      return { stored: members.ids };
    case "refused":
      return { refused: members.ids, error: plainError(members.error) };
    case "report":
      return { report: members.kind };
  }
  throw new Error(`an effect that transcripts do not know: ${effect}`);
}

function plainError(error) {
  if (error === null) return null;
  const { name, code, retryable, maybeSent } = error;
  if (error instanceof RequestError) return { name, code, retryable };
  return error instanceof Unsent ? { name, maybeSent } : { name };
}

const given = (members) => Object.fromEntries(Object.entries(members).filter(([, value]) => value !== null));

const isObject = (value) => typeof value === "object" && value !== null;

/** Return whether two JSON values are equal, times to a microsecond. */
function isSame(found, wanted) {
  if (typeof wanted === "number") return typeof found === "number" && Math.abs(found - wanted) < 1e-6;
  if (!isObject(wanted)) return found === wanted;
  if (!isObject(found) || Array.isArray(found) !== Array.isArray(wanted)) return false;
  const names = Object.keys(wanted);
  return Object.keys(found).length === names.length && names.every((name) => isSame(found[name], wanted[name]));
}
