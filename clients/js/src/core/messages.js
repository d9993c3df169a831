/** Messages of the protocol: what the server sends, decoded, and what is sent to it, encoded. */

/** What the server sent violates the protocol. The text says why and holds nothing of what was sent. */
export class Garbage extends Error {}

const isText = (value) => typeof value === "string";
const isNumber = (value) => typeof value === "number";
const isFlag = (value) => typeof value === "boolean";
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isAny = () => true;
const isTexts = (value) => Array.isArray(value) && value.every(isText);
const either = (one, other) => (value) => one(value) || other(value);
const orNull = (test) => (value) => value === null || test(value);
const objectOf = (test) => (value) => isObject(value) && Object.values(value).every(test);

const id = [orNull(either(isNumber, isText)), null];
const position = [orNull(isText), null];
const agentId = [orNull(isText), null];
const data = [isAny, null];
const text = [isText, ""];
const reason = text;
const code = [either(Number.isInteger, isText), ""];
const needed = [isText];

// The members that each message has: how each is tested, and its default; without a default the message must have it.
const MEMBERS = {
  connected: {
    timestamp: needed,
    heartbeat: [isObject, {}],
    user: [isAny, null],
    limits: [isObject, {}],
    reconnect: [orNull(either(isFlag, isObject)), null],
  },
  event: { eventType: needed, data, position },
  continuity: { eventType: needed, position, recovered: [orNull(either(isFlag, objectOf(isFlag))), null] },
  command: {
    commandId: needed,
    command: needed,
    deadline: needed,
    parameters: [isAny, null],
    caller: [orNull(isText), null],
    agentId,
    attempt: [Number.isInteger, 1],
  },
  command_cancel: { commandId: needed, reason, agentId },
  subscribed: {
    id,
    positions: [orNull(objectOf(isText)), null],
    recovered: [orNull(either(isFlag, objectOf(isFlag))), null],
  },
  unsubscribed: { id, events: [isTexts, []] },
  registered: { id },
  unregistered: { id, commands: [isTexts, []] },
  published: { id, position },
  telemetry_ack: { id },
  command_progress: { id, agentId, data },
  command_result: { id, agentId, data, status: [isText, "success"], code, message: text },
  error: { id, code, message: text, retryable: [isFlag, false] },
  broadcast: { data },
  disconnect: {
    code,
    reason,
    reconnect: [orNull(either(isFlag, isObject)), null],
    delay: [orNull(isNumber), null],
  },
  ping: { delay: [orNull(isNumber), null] },
  pong: {},
};

/** Return the message, with the members that its type has; null if its type is unknown. Throw `Garbage` if it is none. */
export function decode(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Garbage("a message of the server is not JSON");
  }
  if (!isObject(found) || !isText(found.type)) throw new Garbage("a message of the server has the wrong form");
  if (!Object.hasOwn(MEMBERS, found.type)) return null;
  const message = { type: found.type };
  const members = MEMBERS[found.type];
  for (const name in members) {
    const [test, otherwise] = members[name];
    const value = Object.hasOwn(found, name) ? found[name] : otherwise;
    const isNeeded = otherwise === undefined;
    if (value === undefined || (isNeeded && value === "")) {
      throw new Garbage(`a message of the server, ${found.type}, lacks ${name}`);
    }
    if (!test(value)) throw new Garbage(`a message of the server, ${found.type}, has the wrong form: ${name}`);
    message[name] = value;
  }
  return message;
}

/** Return the message as JSON. Throw `TypeError` if it holds something that JSON has not. */
export function encode(message) {
  try {
    return JSON.stringify(message);
  } catch (error) {
    throw error instanceof RangeError ? new TypeError("the data is nested too deeply", { cause: error }) : error;
  }
}

/** Return an encoded object with this number as `id`. */
export const numbered = (text, number) => `${text.slice(0, -1)},"id":${number}}`;

const encoder = new TextEncoder();

/** Return the length of a text in UTF-8. */
export const bytes = (text) => encoder.encode(text).length;

/** Return epoch and offset of a position. Throw `Garbage` if it is none. */
export function parsePosition(text) {
  const colon = text.lastIndexOf(":");
  const offset = text.slice(colon + 1);
  if (colon < 1 || !/^[0-9]+$/.test(offset)) throw new Garbage("a position of the server is not EPOCH:OFFSET");
  return [text.slice(0, colon), Number(offset)];
}

/** Return the position before this one. */
export function before(text) {
  const [epoch, offset] = parsePosition(text);
  return `${epoch}:${offset - 1}`;
}

const TIMESTAMP = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?$/;

/** Return the seconds since 1970 of an ISO 8601 timestamp; without a zone it is in UTC. Throw `Garbage` if it is none. */
export function parseTime(timestamp) {
  const form = TIMESTAMP.exec(timestamp);
  const time = form ? Date.parse(form[3] ? timestamp : `${timestamp}Z`) : NaN;
  if (Number.isNaN(time)) throw new Garbage("a timestamp of the server is not ISO 8601");
  return time / 1000;
}

/** Return a member that is a number, not negative; `otherwise` if there is none. */
export function number(members, name, otherwise) {
  const value = members[name];
  return isNumber(value) && value >= 0 ? value : otherwise;
}

/** Return a number of milliseconds from the server as seconds within reason. */
export const seconds = (milliseconds, most = 3600) => Math.min(Math.max(milliseconds / 1000, 0), most);
