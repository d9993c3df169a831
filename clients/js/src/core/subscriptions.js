/** The streams of a client: put on the wire, recovered after a reconnect, fed with events. */

import { Overloaded, RequestError } from "../errors.js";
import { Event } from "../events.js";
import { deliver, end, report, subscribed } from "./effects.js";
import { parsePattern } from "./matching.js";
import { encode, numbered, parsePosition } from "./messages.js";
import { Routes } from "./routes.js";
import { Mark, Stream, TYPES } from "./stream.js";
import { earliest } from "./times.js";

/** Streams that go to the server in one `subscribe`, with one filter for all (`where` and its `key`) or none. */
class Asking {
  sent = new Map(); // `since`, by type
  failures = 0;
  due = null;

  constructor(streams, where, key) {
    this.streams = streams;
    this.where = where;
    this.key = key;
    this.returning = streams.some((stream) => stream.returning);
  }

  get patterns() {
    return [...new Set(this.streams.flatMap((stream) => stream.patterns.map((pattern) => pattern.text)))];
  }

  get pairs() {
    return this.patterns.map((pattern) => [pattern, this.key]);
  }
}

/** All streams that are open. */
export class Subscriptions {
  #link;
  #stats;
  #streams = new Map(); // by number
  #number = 0;
  #routes = new Routes();
  #waiting = []; // refused for a while, to be asked again

  constructor(link, stats) {
    this.#link = link;
    this.#stats = stats;
  }

  // The application's side.

  open(now, patterns, where, since) {
    const stream = new Stream(this.#number + 1, patterns, where, since);
    this.#number = stream.number;
    this.#streams.set(stream.number, stream);
    this.#routes.changed();
    if (this.#link.up) this.#ask(now, new Asking([stream], stream.where, stream.key));
    return stream.number;
  }

  /** End a stream; on the wire end the patterns that no other stream has. */
  close(number, error) {
    const stream = this.#streams.get(number);
    if (!stream) return;
    this.#streams.delete(number);
    const others = [...this.#streams.values()];
    const wanted = new Set(others.flatMap((other) => other.patterns.map((pattern) => pattern.text)));
    this.#routes.changed();
    const pairs = this.#routes.of(stream.patterns.map((pattern) => pattern.text).filter((text) => !wanted.has(text)));
    if (this.#link.up && pairs.length) this.#unask(pairs);
    this.#link.emit(end(number, error, stream.positions));
  }

  closeAll(error) {
    for (const [number, stream] of this.#streams) this.#link.emit(end(number, error, stream.positions));
    this.#streams.clear();
    this.#routes.clear();
  }

  positions(number) {
    return this.#streams.get(number)?.positions ?? {};
  }

  // The connection's side.

  /**
   * Ask for all streams. Those that overlap go together: the server replays a type once for a connection, and exactly only if
   * each part of it is asked for with the same filter.
   */
  connected(now) {
    const askings = [];
    for (const group of groupsOf(this.#streams.values())) {
      const [first] = group;
      const isCommon = group.every((stream) => stream.key === first.key);
      const asking = new Asking(group, isCommon ? first.where : null, isCommon ? first.key : null);
      const known = askings.find((other) => other.key === asking.key && other.returning === asking.returning);
      if (known) known.streams.push(...group);
      else askings.push(asking);
    }
    for (const asking of askings) this.#ask(now, asking);
  }

  lost() {
    this.#waiting = [];
    this.#routes.clear();
    for (const stream of this.#streams.values()) stream.lost();
  }

  deadline() {
    return earliest(this.#waiting.map((asking) => asking.due));
  }

  tick(now) {
    if (!this.#link.up) return;
    const due = this.#waiting.filter((asking) => asking.due <= now);
    this.#waiting = this.#waiting.filter((asking) => asking.due > now);
    for (const asking of due) this.#ask(now, asking);
  }

  event(message) {
    const name = message.eventType;
    const { targets, complete } = this.#routes.find(name, this.#streams.values());
    this.#stats.events++;
    const event = new Event(name, message.data, message.position);
    if (message.position === null) {
      this.#withoutPosition(event, targets);
      return;
    }
    const [epoch, offset] = parsePosition(message.position);
    for (const { stream, filter } of targets) {
      const mark = stream.marks.get(name);
      // A stream that returns and was not accepted yet sees what others asked for: nothing may be missing there.
      const isOwed = stream.returning && !stream.live;
      if (!mark) {
        if (isOwed && offset !== 1) this.#gap(stream, name, "skipped", `${epoch}:${offset - 1}`);
        this.#mark(stream, name, epoch, offset);
      } else if (mark.epoch === epoch) {
        if (offset <= mark.offset) {
          this.#stats.duplicates++;
          continue;
        }
        if (offset !== mark.offset + 1 && (complete || isOwed)) this.#gap(stream, name, "skipped", `${epoch}:${offset - 1}`);
        mark.offset = offset;
      } else {
        // A type has its epoch from its first event on; the position before that names another one.
        const isSkipped = mark.offset !== 0 || (offset !== 1 && (complete || isOwed));
        if (isSkipped) this.#gap(stream, name, "skipped", `${epoch}:${offset - 1}`);
        mark.epoch = epoch;
        mark.offset = offset;
      }
      if (!filter || filter.matches(event.data)) this.#link.emit(deliver(stream.number, event));
    }
  }

  continuity({ eventType, position, recovered }) {
    const concerns = (stream) =>
      (stream.live || !stream.returning) &&
      (stream.selects(eventType) ||
        (eventType.includes("*") && stream.patterns.some((pattern) => pattern.overlaps(parsePattern(eventType)))));
    for (const stream of [...this.#streams.values()].filter(concerns)) {
      if (recovered !== true) this.#gap(stream, eventType, "server", position);
      if (position === null) continue;
      const [epoch, offset] = parsePosition(position);
      if (!stream.marks.get(eventType)?.reaches(epoch, offset)) this.#mark(stream, eventType, epoch, offset);
    }
  }

  /** An administrator has ended subscriptions. */
  ended({ events }) {
    this.#routes.remove(this.#routes.of(events));
    for (const stream of [...this.#streams.values()]) {
      if (stream.patterns.some((pattern) => events.includes(pattern.text))) {
        this.close(stream.number, new RequestError("unsubscribed", "an administrator ended the subscription"));
      }
    }
  }

  // The requests.

  #ask(now, asking) {
    asking.streams = asking.streams.filter((stream) => this.#streams.has(stream.number));
    if (!asking.streams.length) return;
    const message = { type: "subscribe", events: asking.patterns };
    if (asking.where !== null) message.filters = asking.where;
    if (asking.returning) asking.sent = sinceOf(asking.streams);
    const write = () => encode(asking.returning ? { ...message, since: Object.fromEntries(asking.sent) } : message);
    let text = write();
    while (asking.sent.size && this.#link.excess(text)) {
      // What is left out is recovered from its beginning, where that is still there, and the marks drop what is known.
      asking.sent = new Map([...asking.sent].slice(0, Math.floor(asking.sent.size / 2)));
      text = write();
    }
    const excess = this.#link.excess(text);
    if (excess) {
      const tooLarge = `subscribe has ${excess} bytes, more than ${this.#link.limit}`;
      this.#refuse(now, asking, new RequestError("too_large", tooLarge));
      return;
    }
    const number = this.#link.number();
    const pairs = asking.pairs;
    this.#routes.add(pairs);
    this.#link.ask(number, numbered(text, number), (later, reply) => {
      this.#link.settled(number);
      this.#answered(later, asking, pairs, reply);
    });
  }

  #unask(pairs) {
    const number = this.#link.number();
    const text = encode({ type: "unsubscribe", events: [...new Set(pairs.map(([pattern]) => pattern))] });
    this.#link.ask(number, numbered(text, number), () => {
      this.#link.settled(number);
      this.#routes.remove(pairs); // until then events come that were sent before
    });
  }

  #answered(now, asking, pairs, reply) {
    if (reply.type === "error") {
      this.#routes.remove(pairs);
      this.#refuse(now, asking, new RequestError(String(reply.code), reply.message, reply.retryable));
      return;
    }
    const recovered = new Map(typeof reply.recovered === "object" ? Object.entries(reply.recovered ?? {}) : []);
    for (const stream of asking.streams) {
      if (!this.#streams.has(stream.number)) continue;
      for (const gap of stream.accept(reply.positions ?? null, recovered, asking.sent)) {
        this.#stats.gaps++;
        this.#link.emit(deliver(stream.number, gap));
      }
      this.#link.emit(subscribed(stream.number));
      this.#bound(stream);
    }
  }

  #refuse(now, asking, error) {
    if (error.retryable) {
      asking.failures++;
      asking.due = this.#link.again(now, asking.failures);
      this.#waiting.push(asking);
      this.#link.emit(report("subscription", `refused for now: ${error.message}`));
    } else if (asking.streams.length > 1) {
      // One of them is at fault: ask for each alone, with the filter of all, by which recovery remains exact.
      for (const stream of asking.streams) this.#ask(now, new Asking([stream], asking.where, asking.key));
    } else {
      for (const stream of asking.streams) this.close(stream.number, error);
    }
  }

  // Items.

  #withoutPosition(event, targets) {
    for (const { stream, filter } of targets) {
      if (stream.uncovered(event.type)) this.#gap(stream, event.type, "reconnect", null);
      if (!filter || filter.matches(event.data)) this.#link.emit(deliver(stream.number, event));
      this.#bound(stream);
    }
  }

  #gap(stream, type, reason, position) {
    this.#stats.gaps++;
    this.#link.emit(deliver(stream.number, stream.gap(type, reason, position)));
  }

  #mark(stream, type, epoch, offset) {
    stream.marks.set(type, new Mark(epoch, offset));
    this.#bound(stream);
  }

  #bound(stream) {
    if (stream.size > TYPES) {
      this.close(stream.number, new Overloaded(`the stream has events of more than ${TYPES} types`));
    }
  }
}

/** Return, by type, the position after which some stream needs events: the oldest, if they are of one epoch. */
function sinceOf(streams) {
  const marks = new Map();
  for (const stream of streams) {
    for (const [name, mark] of stream.marks) {
      const known = marks.get(name);
      if (!known || (known.epoch === mark.epoch && known.offset > mark.offset)) marks.set(name, mark);
    }
  }
  return new Map([...marks].map(([name, mark]) => [name, mark.position]));
}

/** Return the streams in groups, as small as possible, such that no two groups overlap; in the order of their first. */
function groupsOf(streams) {
  const groups = [];
  for (const stream of streams) {
    const [first, ...others] = groups.filter((group) => group.some((other) => stream.overlaps(other)));
    if (!first) {
      groups.push([stream]);
      continue;
    }
    first.push(stream);
    for (const group of others) {
      first.push(...group);
      groups.splice(groups.indexOf(group), 1);
    }
  }
  return groups;
}
