/**
 * A client of Nexus: events, telemetry and commands over one connection that is kept up. All times are seconds.
 *
 * @packageDocumentation
 */

/** What JSON can hold. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json | undefined };

/** By event type, a position `EPOCH:OFFSET` in its history. */
export type Positions = Readonly<Record<string, string>>;

/**
 * A filter: by member of the event's data, or by its dotted path, a value that must be equal, or an object of operators: `gt`,
 * `gte`, `lt`, `lte`, `ne`, `in`, `exists`, `prefix`.
 */
export type Filter = { readonly [member: string]: Json };

/** Metrics of a sample: finite numbers, booleans, strings, and objects of these. */
export interface Metrics {
  readonly [name: string]: number | boolean | string | Metrics;
}

/** What a client needs of a WebSocket: a browser's, Node's own, or one of npm's `ws`. */
export type WebSocketConstructor = new (
  url: string,
  protocols: string[],
) => { readonly readyState: number; send(data: string): void; close(code?: number, reason?: string): void };

export interface NexusOptions {
  /**
   * A text, or a function that is called before each attempt to connect. The token is sent as a subprotocol; one with other
   * characters than a subprotocol may have goes into the query.
   */
  token?: string | (() => string | null | Promise<string | null>) | null;
  /** The id under which commands are registered and telemetry is sent. */
  agent?: string | null;
  /** The constructor of sockets; the platform's by default. Node before 22 has none: give that of npm's `ws`. */
  WebSocket?: WebSocketConstructor;
  /** Where samples wait until the server has stored them; a `MemorySpool` by default. */
  spool?: Spool;
  /** How many items may wait in a subscription: 10,000. */
  queue?: number;
  /** How many requests may wait for their answer: 10,000. */
  requests?: number;
  /** How many commands may run at once: 100. Further ones are answered with an error. */
  handlers?: number;
}

export type StateName = "idle" | "connecting" | "connected" | "waiting" | "closed";

export interface State {
  state: Exclude<StateName, "idle">;
  /** With `waiting`: seconds until the next attempt. */
  retryIn: number | null;
  /** With `closed`: why; null if `close` was called. */
  error: Stopped | null;
  /** With `waiting`: what ended the attempt, for people. */
  reason: string;
}

/** Something that a person should see. */
export interface Problem {
  /** What it is about. */
  kind:
    | "connection"
    | "protocol"
    | "token"
    | "registration"
    | "subscription"
    | "command"
    | "telemetry"
    | "handler"
    | "listener"
    | "spool"
    | "stopped";
  message: string;
  error: unknown;
}

export interface Listening {
  /** The state has changed. */
  state: State;
  /** An administrator's message to everybody: its data. */
  broadcast: any;
  /** Something that belongs into a log. Without a listener it goes to `console.error`. */
  error: Problem;
}

export interface SubscribeOptions {
  where?: Filter | null;
  /** The saved `positions` of an earlier subscription, to miss nothing in between; `{}`: from the beginning of the history. */
  since?: Positions | null;
  /** Aborting it closes the subscription. */
  signal?: AbortSignal;
}

export interface CallOptions {
  parameters?: Json | object;
  /** The agent, or a list of agents, that shall execute it; without one, the server chooses. */
  target?: string | readonly string[] | null;
  /** Seconds for one attempt: 30. */
  timeout?: number;
  /** Seconds that it may wait for an agent that is away: 0. */
  ttl?: number;
  /** How often to try again after an agent was lost: 0. */
  retries?: number;
  /** The same id is the same command, for a day; a new one by default. */
  commandId?: string | null;
  /** Aborting it cancels the command. */
  signal?: AbortSignal;
}

export interface TelemetryOptions {
  /** The client's `agent` by default. */
  agent?: string;
  /** When it was measured; now by default. */
  at?: Date;
}

/** A sample that is in the spool. */
export interface Recorded {
  readonly id: string;
  /**
   * Fulfilled once the server has stored the sample. Rejected with `SampleDropped` if the spool was full, with `RequestError`
   * if the server refuses the sample, and with `Stopped` if the client ends before; a spool on disk still sends it later.
   * A failure that nobody waits for is no unhandled rejection.
   */
  readonly stored: Promise<void>;
}

/** Progress of a command. `agent` is null if the server itself executes it. */
export interface Step {
  agent: string | null;
  data: any;
}

/** What became of a command at one of several agents. */
export type Outcome =
  | { agentId: string; status: "success"; result: any }
  | { agentId: string; status: string; message: string; code: string };

/** Whom the server takes a client for. */
export interface User {
  readonly subject: string;
  readonly role: string;
}

export type Handler<P = any> = (call: Call, parameters: P) => unknown;

/** A client of Nexus. It begins to connect at the end of the present turn, and stays connected until it is closed. */
export declare class Nexus {
  /**
   * `url`: `http(s)://` or `ws(s)://HOST[:PORT]`; a path is kept. Throw `TypeError` for a malformed URL, token or agent, and
   * where the platform has no WebSocket and none is given.
   */
  constructor(url: string, options?: NexusOptions);

  readonly state: StateName;

  /** Whom the server took this client for when it connected last; null before that. */
  readonly user: User | null;

  /** Counters, which only rise. */
  readonly stats: Readonly<Stats>;

  /** Call `listener` with each; return the function that ends this. */
  on<Name extends keyof Listening>(name: Name, listener: (what: Listening[Name]) => unknown): () => void;

  /** Return once there is a connection. Throw the error if there will be none. */
  connected(): Promise<void>;

  /** Return when the client has been closed. Throw the error if it had to stop. */
  closed(): Promise<void>;

  /**
   * Send what is spooled, as far as that goes within `timeout` seconds (5), abort the handlers that run, and end. Nothing of
   * the client is left then that keeps a process alive.
   */
  close(options?: { timeout?: number }): Promise<void>;

  /** The network or the machine is back: try again at once, or check the connection if there is one. In pages it notices. */
  woke(): void;

  /**
   * Subscribe to the events that match a pattern, and the filter if there is one. Throw `TypeError`, naming the member, if a
   * pattern, an operand or a position is malformed; the error that ended the client, if it has ended.
   */
  subscribe<T = any>(patterns: string | readonly string[], options?: SubscribeOptions): Subscription<T>;

  /**
   * Publish an event, once, and return its position (null: no history). While there is no connection it waits, for `timeout`
   * seconds (10) in all. Throw `NotConnected`, `ConnectionLost`, `Timeout` (see their `maybeSent`) or `RequestError`.
   */
  publish(type: string, data?: Json | object, options?: { timeout?: number }): Promise<string | null>;

  /**
   * Call a command; the result is what its handler returned, or, for a list of targets, the list of their outcomes. It fails
   * with `CommandError` or `Timeout`.
   */
  call<T = any>(command: string, options?: CallOptions): Run<T>;

  /**
   * Execute a command from now on. The handler is called with a `Call` and the command's parameters (`{}` without any); what
   * it returns, or the promise of it, is the result. `CommandFailed` tells the caller why not.
   */
  command<P = any>(name: string, handler: Handler<P>): void;

  /** Execute a command no more. What runs may finish. */
  forgetCommand(name: string): void;

  /**
   * Put a sample into the spool; return once it is there. Throw `TypeError`, naming the member, for wrong metrics, and
   * `SpoolError` if the spool cannot be written.
   */
  telemetry(metrics: Metrics, options?: TelemetryOptions): Promise<Recorded>;
}

export interface Stats {
  /** To connect. */
  attempts: number;
  /** Attempts that reached `connected`. */
  connections: number;
  /** Messages that violate the protocol. */
  garbage: number;
  /** Received. */
  events: number;
  /** Events that came again, and were dropped. */
  duplicates: number;
  /** Told. */
  gaps: number;
  /** Run. */
  commands: number;
  /** Commands turned away because too many ran. */
  busy: number;
  /** Commands that came again, and were answered by the same execution. */
  repeats: number;
  /** Samples. */
  stored: number;
  /** Samples. */
  refused: number;
  /** Messages of samples. */
  batches: number;
}

/** An event. */
export declare class Event<T = any> {
  constructor(type: string, data: T, position?: string | null);
  readonly type: string;
  readonly data: T;
  /** Its place in the history of its type, `EPOCH:OFFSET`; null if the type has no history. */
  readonly position: string | null;
}

/** Tell that events of `type` may be missing at this place of the stream; what follows is complete again. */
export declare class Gap {
  constructor(type: string, reason: Gap["reason"], position?: string | null, since?: string | null);
  /** An event type, or a pattern: then this concerns each type that it matches. */
  readonly type: string;
  /**
   * - `reconnect`: the history no longer reaches back to `since`, or the type has none;
   * - `server`: the server lost events and said so;
   * - `skipped`: an offset was left out, or the epoch changed unannounced;
   * - `overflow`: the consumer was slower than its queue is long.
   */
  readonly reason: "reconnect" | "server" | "skipped" | "overflow";
  /** What is missing lies not after this; null: the type has no history, or its position is not known. */
  readonly position: string | null;
  /** What is missing lies after this; null: unknown. */
  readonly since: string | null;
}

/**
 * A stream of events. The iteration ends when the subscription or the client is closed; it throws the error if the server
 * refuses the subscription, or if the client had to stop. Leaving a `for await` closes the subscription.
 */
export declare class Subscription<T = any> implements AsyncIterableIterator<Event<T> | Gap> {
  private constructor();
  /** By event type, the position up to which the iteration has taken everything; to be saved, and given as `since`. */
  readonly positions: Record<string, string>;
  /** How many items were dropped because they were taken too slowly; each place is told by a `Gap`. */
  readonly dropped: number;
  /** Return once the server has accepted it: events from then on come. Throw the error if it never will. */
  accepted(): Promise<void>;
  /** End it. What is queued may still be taken. */
  close(): void;
  next(): Promise<IteratorResult<Event<T> | Gap, undefined>>;
  return(value?: undefined): Promise<IteratorResult<Event<T> | Gap, undefined>>;
  [Symbol.asyncIterator](): this;
}

/** A command on its way: a promise of its result. A failure that nobody waits for is no unhandled rejection. */
export declare class Run<T = any> implements Promise<T> {
  private constructor();
  /** What the handler reports until the command ends, however it ends. One iteration takes each step. */
  readonly progress: AsyncIterable<Step>;
  /**
   * For a list of targets: the outcome of each agent as it ends, until the command ends, however it ends. One iteration takes
   * each; the result has them all.
   */
  readonly outcomes: AsyncIterable<Outcome>;
  /** Ask the server to cancel the command; its end still comes, mostly as `CommandCancelled`. */
  cancel(): void;
  then: Promise<T>["then"];
  catch: Promise<T>["catch"];
  finally: Promise<T>["finally"];
  readonly [Symbol.toStringTag]: string;
}

/** One execution of a command, the first argument of its handler. */
export declare class Call {
  private constructor();
  readonly command: string;
  /** The caller's subject. */
  readonly caller: string | null;
  /** The agent that was called, if the server named it. */
  readonly agent: string | null;
  /** Counts from 1. */
  readonly attempt: number;
  /** Aborted once nobody waits for the result any more. */
  readonly signal: AbortSignal;
  /**
   * Tell the caller how far it is. It is sent in any case; await the result not to be faster than the network. Throw
   * `TypeError` for what is no JSON.
   */
  progress(data?: Json | object): Promise<void>;
  /** Return the seconds until nobody waits for the result any more. */
  remaining(): number;
}

/** A sample as a spool keeps it. `timestamp` is ISO 8601 in UTC, `metrics` a JSON object as text. */
export interface Sample {
  id: string;
  agent: string;
  timestamp: string;
  metrics: string;
}

/** What a spool tells its client. */
export interface SpoolListener {
  /** There are samples for `next`. */
  more(): void;
  /** Samples left the spool by another's doing: stored, or not with an error. */
  settled(ids: string[], error: NexusError | null): void;
  /** Nothing can be sent from this spool. */
  failed(error: unknown): void;
}

/**
 * Where samples wait until the server has stored them. Methods may return promises; a client calls one at a time. What they
 * throw reaches the application as a `SpoolError`.
 */
export interface Spool {
  /** How many samples are to be sent by this client. */
  readonly length: number;
  open(listener: SpoolListener): void | Promise<void>;
  close(): void | Promise<void>;
  /** Add samples at the end; return the ids of those that were dropped for them, the oldest first. */
  add(samples: Sample[]): string[] | Promise<string[]>;
  /** Return the oldest samples that were not returned before, at most `limit`; a spool that was opened begins anew. */
  next(limit: number): Sample[] | Promise<Sample[]>;
  /** Remove samples that the server has stored or, with an error, never will; unknown ids are ignored. */
  remove(ids: string[], error: NexusError | null): void | Promise<void>;
}

export interface SpoolLimits {
  /** 100,000; the oldest are dropped. */
  samples?: number;
  /** Bytes: 64 MiB. */
  size?: number;
}

/** A spool in memory. It belongs to one client at a time. */
export declare class MemorySpool implements Spool {
  constructor(limits?: SpoolLimits);
  readonly length: number;
  /** How many samples it has dropped. */
  readonly dropped: number;
  open(): void;
  close(): void;
  add(samples: Sample[]): string[];
  next(limit: number): Sample[];
  remove(ids: string[]): void;
}

/**
 * A spool in a browser's database: it survives the page, the browser and a power failure. Tabs of an origin may share a name:
 * one of them sends for all. Needs a page that was loaded by https or from localhost.
 */
export declare class IndexedDBSpool implements Spool {
  constructor(name?: string, limits?: SpoolLimits);
  readonly length: number;
  /** How many samples this tab has dropped. */
  readonly dropped: number;
  open(listener: SpoolListener): Promise<void>;
  close(): Promise<void>;
  add(samples: Sample[]): Promise<string[]>;
  next(limit: number): Promise<Sample[]>;
  remove(ids: string[], error: NexusError | null): Promise<void>;
}

/** The base of every error of this package. */
export declare class NexusError extends Error {}
/** A request that has no answer. */
export declare class Unsent extends NexusError {
  constructor(message: string, maybeSent?: boolean);
  /** False if the server has certainly not received it. */
  readonly maybeSent: boolean;
}
/** There was no connection for as long as the request could wait; it was not sent. */
export declare class NotConnected extends Unsent {}
/** The connection ended before the answer. If `maybeSent`, the request may or may not have had its effect. */
export declare class ConnectionLost extends Unsent {}
/** No answer in time. */
export declare class Timeout extends Unsent {}
/** More is pending than the client may hold. */
export declare class Overloaded extends NexusError {}
/** The client has ended and does not connect again. A subclass says why; this class itself: because it was closed. */
export declare class Stopped extends NexusError {}
/** The server refuses the token. */
export declare class Unauthorized extends Stopped {}
/** The token is valid, but must not connect. */
export declare class Forbidden extends Stopped {}
/** A newer connection registered under the same agent id. */
export declare class Replaced extends Stopped {}
/** The key, user or issuer of the token is no longer valid. */
export declare class Revoked extends Stopped {}
/** An administrator or the server ended the connection for good. */
export declare class Disconnected extends Stopped {}
/** The server found a violation of the protocol, so that the next attempt would end in the same way. */
export declare class ProtocolError extends Stopped {}
/** The first attempt showed that the address is wrong: no Nexus there, or a certificate that does not verify. */
export declare class Unreachable extends Stopped {}
/** The server (or this client, before it sent anything) refused a request. */
export declare class RequestError extends NexusError {
  constructor(code: string, message: string, retryable?: boolean);
  /** One of the protocol's error codes. */
  readonly code: string;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
}
/** A command ended without a result, or was refused. */
export declare class CommandError extends RequestError {}
/** A command was cancelled: by this client, another of the same subject, or an administrator. */
export declare class CommandCancelled extends CommandError {}
/** A command had no result within its `timeout`. */
export declare class CommandTimeout extends CommandError {}
/** A sample of telemetry left the full spool before it was stored. */
export declare class SampleDropped extends NexusError {}
/** The spool cannot be opened, read or written. `cause` is the reason. */
export declare class SpoolError extends NexusError {}
/** Throw it in a handler to fail a command: its text is told to the caller. */
export declare class CommandFailed extends NexusError {}
