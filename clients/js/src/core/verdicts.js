/** What the end of an attempt means: to stop, or to try again. */

import { Disconnected, ProtocolError, Replaced, Revoked } from "../errors.js";

export const TOKEN_CLOSES = [1008, 4500]; // Unauthorized, Token expired: another token may do
export const TOO_MANY_ERRORS = 4004;

const FATAL = new Map([
  [1002, ProtocolError],
  [1003, ProtocolError],
  [1007, ProtocolError],
  [1009, ProtocolError],
  [4003, Replaced],
  [4501, Revoked],
  [4502, Disconnected],
]);

/** Answers to the upgrade that mean: here is no Nexus. They are final unless there was one before. */
export const NO_NEXUS = [400, 404, 405, 426];

/**
 * Return why not to come back after the server's close; null if the client should. `reconnect`: what the server said about it,
 * true if nothing.
 */
export function fatal(code, reason, reconnect) {
  const Kind = FATAL.get(code) ?? (reconnect ? null : Disconnected);
  return Kind && new Kind(`the server closed the connection: ${code} ${reason}`.trimEnd());
}
