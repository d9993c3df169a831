/** What can go wrong, as one tree of errors. No text in it holds a token. */

/** The base of every error of this package. `name` is the name of the class, also in minified code. */
export class NexusError extends Error {}

/** A request that has no answer. `maybeSent` is false if the server has certainly not received it. */
export class Unsent extends NexusError {
  constructor(message, maybeSent = false) {
    super(message);
    this.maybeSent = maybeSent;
  }
}

/** There was no connection for as long as the request could wait; it was not sent. */
export class NotConnected extends Unsent {}

/** The connection ended before the answer. If `maybeSent`, the request may or may not have had its effect. */
export class ConnectionLost extends Unsent {}

/** No answer in time. */
export class Timeout extends Unsent {}

/** More is pending than the client may hold. */
export class Overloaded extends NexusError {}

/** The client has ended and does not connect again. A subclass says why; this class itself: because it was closed. */
export class Stopped extends NexusError {}

/** The server refuses the token. */
export class Unauthorized extends Stopped {}

/** The token is valid, but must not connect. */
export class Forbidden extends Stopped {}

/** A newer connection registered under the same agent id. */
export class Replaced extends Stopped {}

/** The key, user or issuer of the token is no longer valid. */
export class Revoked extends Stopped {}

/** An administrator or the server ended the connection for good. */
export class Disconnected extends Stopped {}

/** The server found a violation of the protocol, so that the next attempt would end in the same way. */
export class ProtocolError extends Stopped {}

/** The first attempt showed that the address is wrong: no Nexus there, or a certificate that does not verify. */
export class Unreachable extends Stopped {}

/**
 * The server (or this client, before it sent anything) refused a request. `code` is one of the protocol's error codes,
 * `retryable` says whether the same request may succeed later.
 */
export class RequestError extends NexusError {
  constructor(code, message, retryable = false) {
    super(message);
    this.code = code;
    this.retryable = retryable;
  }
}

/** A command ended without a result, or was refused. */
export class CommandError extends RequestError {}

/** A command was cancelled: by this client, another of the same subject, or an administrator. */
export class CommandCancelled extends CommandError {}

/** A command had no result within its `timeout`. */
export class CommandTimeout extends CommandError {}

/** A sample of telemetry left the full spool before it was stored. */
export class SampleDropped extends NexusError {}

/** The spool cannot be opened, read or written. `cause` is the reason. */
export class SpoolError extends NexusError {}

/** Throw it in a handler to fail a command: its text is told to the caller. */
export class CommandFailed extends NexusError {}

const named = {
  NexusError,
  Unsent,
  NotConnected,
  ConnectionLost,
  Timeout,
  Overloaded,
  Stopped,
  Unauthorized,
  Forbidden,
  Replaced,
  Revoked,
  Disconnected,
  ProtocolError,
  Unreachable,
  RequestError,
  CommandError,
  CommandCancelled,
  CommandTimeout,
  SampleDropped,
  SpoolError,
  CommandFailed,
};
for (const [name, kind] of Object.entries(named)) {
  Object.defineProperty(kind.prototype, "name", { value: name, writable: true, configurable: true });
}
