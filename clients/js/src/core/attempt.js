/** One attempt to connect, from its begin to the end of its socket. */

const OPENING = 20; // seconds until the WebSocket is open, the token included
export const GREETING = 10; // seconds from there to `connected`
export const CLOSING = 10; // seconds for the other end to close

/** `open`: the WebSocket is, the server has not greeted. `closing`: this side has begun to close. */
export const Phase = Object.freeze({
  OPENING: "opening",
  OPEN: "open",
  CONNECTED: "connected",
  CLOSING: "closing",
  DROPPED: "dropped",
});

/**
 * `announced`: the server's `disconnect`. `connectedAt`: when the server greeted. `deadline`: when the phase has lasted too
 * long; null if nothing bounds it.
 */
export class Attempt {
  phase = Phase.OPENING;
  connectedAt = null;
  announced = null;

  constructor(number, now) {
    this.number = number;
    this.deadline = now + OPENING;
  }

  turn(phase, deadline) {
    this.phase = phase;
    this.deadline = deadline;
  }
}
