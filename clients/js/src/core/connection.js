/** The connection: one attempt after the other, and what each end means. */

import { Forbidden, Stopped, Unauthorized, Unreachable } from "../errors.js";
import { Attempt, CLOSING, GREETING, Phase } from "./attempt.js";
import { close, connect, drop, report, turn } from "./effects.js";
import { MESSAGE } from "./link.js";
import { Liveness } from "./liveness.js";
import { Garbage, decode, number, parseTime, seconds } from "./messages.js";
import { DELAY, Retry } from "./retry.js";
import { earliest } from "./times.js";
import { Tokens } from "./tokens.js";
import { userOf } from "./user.js";
import { NO_NEXUS, TOKEN_CLOSES, TOO_MANY_ERRORS, fatal } from "./verdicts.js";

const LATE = 5; // seconds: a timer that is later shows that the machine slept
const LONGEST_HOLD = 86_400; // seconds of `Retry-After` that are honoured

/** Keep one connection up. The inputs are those of `Core` with the same names. */
export class Connection {
  #link;
  #parts;
  #stats;
  #attempt = null;
  #retryAt = null;
  #hold = 0; // not to retry before, whatever happens
  #asked = null;
  #retry;
  #tokens;
  #liveness = new Liveness();
  state = "idle";
  stopped = null;
  user = null;

  constructor(link, parts, stats, renewable, random) {
    this.#link = link;
    this.#parts = parts;
    this.#stats = stats;
    this.#retry = new Retry(random);
    this.#tokens = new Tokens(renewable);
  }

  deadline() {
    this.#asked = earliest([
      this.#retryAt,
      this.#attempt?.deadline ?? null,
      this.#isLive ? this.#liveness.deadline() : null,
      this.#parts.deadline(),
    ]);
    return this.#asked;
  }

  start(now) {
    if (this.state === "idle") this.#connect(now);
  }

  stop(now) {
    if (this.stopped !== null) return;
    this.#end(new Stopped("the client was closed"));
    const attempt = this.#attempt;
    if (attempt === null) this.#turn("closed");
    else if (attempt.phase === Phase.OPEN || attempt.phase === Phase.CONNECTED) this.#close(now, attempt, 1000, "");
    else if (attempt.phase === Phase.OPENING) this.#drop(attempt);
  }

  woke(now) {
    if (this.#retryAt !== null) {
      this.#retry.hasten(now);
      this.#retryAt = Math.max(now, this.#hold);
      this.#retryIfDue(now);
    } else if (this.#isLive) {
      this.#probe(now);
    }
  }

  tick(now) {
    const isLate = this.#asked !== null && now - this.#asked > LATE;
    this.#asked = null;
    const attempt = this.#attempt;
    if (attempt !== null && attempt.deadline !== null && attempt.deadline <= now) this.#drop(attempt);
    this.#retryIfDue(now);
    if (this.#isLive && isLate) {
      this.#probe(now);
    } else if (this.#isLive && this.#liveness.deadline() <= now) {
      if (this.#liveness.probing) this.#drop(attempt);
      else this.#probe(now);
    }
    this.#parts.tick(now);
  }

  token(now, attempt, token) {
    if (!this.#isPresent(attempt) || this.stopped !== null) return false;
    if (this.#tokens.offer(token)) return true;
    this.#over(now, new Unauthorized("the server refused this token before, and there is no other one"));
    return false;
  }

  tokenFailed(now, attempt, error) {
    if (!this.#isPresent(attempt)) return;
    this.#link.emit(report("token", `no token could be obtained: ${error}`));
    this.#over(now, this.#retry.wait(now), "no token");
  }

  opened(now, attempt) {
    if (this.#isPresent(attempt) && this.#attempt.phase === Phase.OPENING) this.#attempt.turn(Phase.OPEN, now + GREETING);
  }

  refused(now, attempt, status, retryAfter, detail, certificate) {
    if (!this.#isPresent(attempt)) return;
    const reason = status === null ? detail : `${status} ${detail}`;
    if (status === 401) {
      this.#refuseToken(now, `the server refuses the token: ${reason}`);
    } else if (status === 403) {
      this.#over(now, new Forbidden(`the server refuses the connection: ${reason}`));
    } else if (certificate || NO_NEXUS.includes(status)) {
      if (this.#stats.connections) this.#over(now, this.#retry.wait(now, { steep: true }), reason);
      else this.#over(now, new Unreachable(`no Nexus at this address: ${reason}`));
    } else {
      const after = Math.min(Math.max(retryAfter ?? 0, 0), LONGEST_HOLD);
      this.#hold = now + after;
      this.#over(now, this.#retry.wait(now, { after, steep: after > 0 }), reason);
    }
  }

  received(now, attempt, text) {
    if (!this.#isPresent(attempt)) return;
    const present = this.#attempt;
    try {
      const message = decode(text);
      if (present.phase === Phase.CONNECTED) {
        this.#liveness.hear(now);
        if (message) this.#message(now, present, message);
      } else if (present.phase === Phase.OPEN && message) {
        if (message.type === "connected") this.#greeted(now, present, message);
        else if (message.type === "disconnect") this.#announced(now, present, message);
      }
    } catch (error) {
      if (!(error instanceof Garbage)) throw error;
      this.#garbage(now, present, 1002, error.message);
    }
  }

  binary(now, attempt) {
    if (this.#isPresent(attempt)) this.#garbage(now, this.#attempt, 1003, "the server sent a binary message");
  }

  lost(now, attempt, closeCode, closeReason) {
    if (!this.#isPresent(attempt)) return;
    const present = this.#attempt;
    const announced = present.announced;
    if (present.connectedAt !== null) this.#retry.ended(now - present.connectedAt);
    const code = typeof announced?.code === "number" ? announced.code : closeCode;
    const reason = announced?.reason || closeReason;
    const why = `${code} ${reason}`.trimEnd();
    if (present.phase === Phase.CLOSING) {
      this.#over(now, this.#retry.wait(now, { steep: true }), "a violation of the protocol");
      return;
    }
    if (TOKEN_CLOSES.includes(code)) {
      this.#refuseToken(now, `the server closed the connection: ${why}`);
      return;
    }
    const error = fatal(code, reason, announced?.reconnect !== false);
    if (error) {
      this.#over(now, error);
      return;
    }
    const delay = typeof announced?.delay === "number" ? seconds(announced.delay) : null;
    const steep = code === TOO_MANY_ERRORS || present.connectedAt === null;
    this.#over(now, this.#retry.wait(now, { delay, steep }), why);
  }

  /** Whether there is a connection whose end the server has not announced. */
  get #isLive() {
    return this.#attempt?.phase === Phase.CONNECTED && this.#link.up;
  }

  #isPresent(attempt) {
    return this.#attempt?.number === attempt;
  }

  #turn(state, retryIn = null, error = null, reason = "") {
    this.state = state;
    this.#link.emit(turn(state, retryIn, error, reason));
  }

  #connect(now) {
    this.#stats.attempts++;
    this.#link.attempt++;
    this.#attempt = new Attempt(this.#link.attempt, now);
    this.#turn("connecting");
    this.#link.emit(connect(this.#link.attempt));
  }

  #retryIfDue(now) {
    if (this.#retryAt !== null && this.#retryAt <= now) {
      this.#retryAt = null;
      this.#connect(now);
    }
  }

  /** The attempt has ended: stop with an error, or wait for so many seconds. */
  #over(now, then, reason = "") {
    this.#attempt = null;
    this.#link.gone();
    if (this.stopped !== null) {
      this.#turn("closed");
    } else if (then instanceof Stopped) {
      this.#end(then);
      this.#turn("closed", null, then);
    } else {
      this.#parts.lost();
      this.#retryAt = now + then;
      this.#turn("waiting", then, null, reason);
    }
  }

  /** Nothing is done any more: everything that waits ends with the error. */
  #end(error) {
    this.stopped = error;
    this.#retryAt = null;
    this.#link.down();
    this.#parts.stopped(error);
  }

  #refuseToken(now, text) {
    if (this.#tokens.refuse()) this.#over(now, this.#retry.wait(now, { steep: true }), text);
    else this.#over(now, new Unauthorized(text));
  }

  #drop(attempt) {
    attempt.turn(Phase.DROPPED, null);
    this.#link.down();
    this.#link.emit(drop());
  }

  #close(now, attempt, code, reason) {
    attempt.turn(Phase.CLOSING, now + CLOSING);
    this.#link.down();
    this.#link.emit(close(code, reason));
  }

  #probe(now) {
    this.#liveness.probe(now);
    this.#link.say({ type: "ping" });
  }

  #garbage(now, attempt, code, text) {
    if (attempt.phase !== Phase.OPEN && attempt.phase !== Phase.CONNECTED) return;
    this.#stats.garbage++;
    this.#link.emit(report("protocol", text));
    this.#close(now, attempt, code, text);
  }

  #greeted(now, attempt, { timestamp, limits, reconnect, heartbeat, user }) {
    const link = this.#link;
    link.clock = parseTime(timestamp) - now;
    link.limit = Math.floor(number(limits, "message", MESSAGE));
    const wishes = typeof reconnect === "object" ? (reconnect ?? {}) : {};
    this.#retry.greeted(seconds(number(wishes, "delay", DELAY * 1000)));
    this.#liveness.begin(now, number(heartbeat, "interval", 0));
    attempt.turn(Phase.CONNECTED, null);
    attempt.connectedAt = now;
    this.#tokens.accepted();
    this.user = userOf(user);
    this.#stats.connections++;
    this.#turn("connected");
    link.up = true;
    this.#parts.connected(now);
  }

  #announced(now, attempt, message) {
    attempt.announced = message;
    attempt.deadline = now + CLOSING;
    this.#link.down();
  }

  #message(now, attempt, message) {
    if (message.type === "ping") {
      if (message.delay !== null) this.#retry.wished(seconds(message.delay));
      if (this.#link.up) this.#link.say({ type: "pong" });
    } else if (message.type === "disconnect") {
      this.#announced(now, attempt, message);
    } else {
      this.#parts.message(now, message);
    }
  }
}
