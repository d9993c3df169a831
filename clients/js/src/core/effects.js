/** What the core asks of its shell, which carries effects out in their order. Each is an object whose `effect` names it. */

/**
 * Begin an attempt: obtain the token and give it to `Core.token`; if that returns true, open a socket. The attempt ends with
 * exactly one report: `tokenFailed`, `refused` or `lost`; none if `Core.token` returned false.
 */
export const connect = (attempt) => ({ effect: "connect", attempt });

/** Send a text message on the socket. */
export const send = (text) => ({ effect: "send", text });

/** Begin the closing handshake; the core still waits for `lost`. */
export const close = (code, reason) => ({ effect: "close", code, reason });

/** Abort the attempt in whatever phase it is, without a handshake; report `lost` as soon as no socket is left. */
export const drop = () => ({ effect: "drop" });

/**
 * The client's state has changed: `connecting`, `connected`, `waiting` or `closed`. `retryIn`: with `waiting`, seconds until
 * the next attempt. `error`: with `closed`, why; null if `stop` was called. `reason`: with `waiting`, what ended the attempt.
 */
export const turn = (state, retryIn = null, error = null, reason = "") => ({ effect: "state", state, retryIn, error, reason });

/** The server has accepted a stream, for the first time or after a reconnect: all events from now on are delivered. */
export const subscribed = (stream) => ({ effect: "subscribed", stream });

/** Put an item, an `Event` or a `Gap`, into a stream. */
export const deliver = (stream, item) => ({ effect: "deliver", stream, item });

/**
 * A stream has ended and gets no more items; what is queued may still be read. `error`: why, null after `unsubscribe`.
 * `positions` are its last ones, as `Core.positions` returned them until now.
 */
export const end = (stream, error, positions) => ({ effect: "end", stream, error, positions });

/** A message of an administrator to everybody. */
export const broadcast = (data) => ({ effect: "broadcast", data });

/**
 * Run the handler of a command, then call `Core.succeed` or `Core.fail` exactly once, also after `cancelInvocation`. `caller`
 * is the calling subject; `agent` is present if the server named the executing agent. `attempt` counts from 1. `deadline` is in
 * the time of `now`.
 */
export const invoke = (execution, message, deadline) => ({
  effect: "invoke",
  execution,
  command: message.command,
  parameters: message.parameters,
  caller: message.caller,
  agent: message.agentId,
  attempt: message.attempt,
  deadline,
});

/** Cancel a running handler: nobody waits for it any more. `reason`: `cancelled`, `timeout` or `closed`. */
export const cancelInvocation = (execution, reason) => ({ effect: "cancelInvocation", execution, reason });

/** Progress of a command that this client has called. `agent` is null if the server itself executes it. */
export const progress = (request, agent, data) => ({ effect: "progress", request, agent, data });

/**
 * One of several agents has ended a command that this client has called; told once for each, before `settle`. `outcome` is as
 * in the result of `settle`.
 */
export const outcome = (request, outcome) => ({ effect: "outcome", request, outcome });

/**
 * A request has ended: with `result` if `error` is null. The result of `publish` is the position or null, that of `call` what
 * the handler returned; for a list of targets the list of `{agentId, status, result or message, code}`.
 */
export const settle = (request, error, result = null) => ({ effect: "settle", request, error, result });

/** Answer by `Core.batch` with the next samples of the spool, at most `limit`, that were not given before. */
export const fetch = (limit) => ({ effect: "fetch", limit });

/** The server has stored these samples: remove them from the spool. */
export const stored = (ids) => ({ effect: "stored", ids });

/** The server will never store these samples: remove them from the spool, count them, and tell their senders. */
export const refused = (ids, error) => ({ effect: "refused", ids, error });

/**
 * Something that a person should see. `kind`: `connection`, `protocol`, `token`, `registration`, `subscription`, `command` or
 * `telemetry`.
 */
export const report = (kind, message) => ({ effect: "report", kind, message });
