/** A client of Nexus: events, telemetry and commands over one connection that is kept up. */

export { Nexus } from "./client.js";
export {
  CommandCancelled,
  CommandError,
  CommandFailed,
  CommandTimeout,
  ConnectionLost,
  Disconnected,
  Forbidden,
  NexusError,
  NotConnected,
  Overloaded,
  ProtocolError,
  Replaced,
  RequestError,
  Revoked,
  SampleDropped,
  SpoolError,
  Stopped,
  Timeout,
  Unauthorized,
  Unreachable,
  Unsent,
} from "./errors.js";
export { Event, Gap } from "./events.js";
export { Call } from "./handlers.js";
export { Run } from "./run.js";
export { IndexedDBSpool } from "./spool/indexeddb.js";
export { MemorySpool } from "./spool/memory.js";
export { Subscription } from "./subscription.js";
