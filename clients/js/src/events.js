/** The items of a subscription's stream. */

/** An event. `position` is its place in the history of its type, `EPOCH:OFFSET`; null if the type has no history. */
export class Event {
  constructor(type, data, position = null) {
    this.type = type;
    this.data = data;
    this.position = position;
  }
}

/**
 * Tell that events of `type` may be missing at this place of the stream; what follows is complete again.
 *
 * `type` may be a pattern: then this concerns each type that it matches. The missing events, if any, lie after the position
 * `since` (null: unknown) and not after `position` (null: the type has no history, or its position is not known). `reason`:
 *
 * * `reconnect`: the history no longer reaches back to `since`, or the type has none;
 * * `server`: the server lost events and said so;
 * * `skipped`: an offset was left out, or the epoch changed unannounced;
 * * `overflow`: the consumer was slower than its queue is long.
 */
export class Gap {
  constructor(type, reason, position = null, since = null) {
    this.type = type;
    this.reason = reason;
    this.position = position;
    this.since = since;
  }
}
