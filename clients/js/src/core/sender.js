/** Telemetry on its way from the spool to the server. */

import { RequestError } from "../errors.js";
import { fetch, refused, report, stored } from "./effects.js";
import { numbered } from "./messages.js";

const BATCH = 500; // samples of one message
const FLIGHT = 8; // messages that await their acknowledgement
const FAULTS = 50; // refused messages in a minute, half of what the server bears before it closes with 4004
const MINUTE = 60;

/**
 * Send samples in batches of one agent, and again until the server has stored or refused each. A sample is `{id, agent,
 * timestamp, metrics}`, `metrics` a JSON object as text.
 */
export class Sender {
  #link;
  #stats;
  #ready = [];
  #flight = new Map(); // by number, the samples of each message
  #isFetching = false;
  #more = false;
  #due = null;
  #failures = 0;
  #faults = []; // the times of the last ones

  constructor(link, stats) {
    this.#link = link;
    this.#stats = stats;
  }

  spooled(now) {
    this.#more = true;
    this.#pump(now);
  }

  batch(now, samples) {
    const agents = new Map();
    for (const sample of samples) {
      if (!agents.has(sample.agent)) agents.set(sample.agent, []);
      agents.get(sample.agent).push(sample);
    }
    this.#ready.push(...agents.values());
    this.#isFetching = false;
    this.#more = this.#more || samples.length >= BATCH;
    this.#pump(now);
  }

  connected(now) {
    this.#pump(now);
  }

  lost() {
    this.#ready.unshift(...this.#flight.values());
    this.#flight.clear();
    this.#due = null;
  }

  deadline() {
    return this.#due;
  }

  tick(now) {
    if (this.#due !== null && this.#due <= now) {
      this.#due = null;
      this.#pump(now);
    }
  }

  #pump(now) {
    if (!this.#link.up || this.#due !== null) return;
    while (this.#ready.length && this.#flight.size < FLIGHT) this.#send(this.#ready.shift());
    if (this.#more && !this.#isFetching && this.#flight.size < FLIGHT) {
      this.#isFetching = true;
      this.#more = false;
      this.#link.emit(fetch(BATCH));
    }
  }

  #send(samples) {
    const text = write(samples);
    // Half of what is allowed: a long message delays what follows it.
    if (samples.length > 1 && this.#link.limit && text.length > Math.floor(this.#link.limit / 2)) {
      this.#halve(samples);
      return;
    }
    const excess = this.#link.excess(text);
    if (excess) {
      const tooLarge = `the sample has ${excess} bytes, more than ${this.#link.limit}`;
      this.#refuse(samples, new RequestError("too_large", tooLarge));
      return;
    }
    const number = this.#link.number();
    this.#flight.set(number, samples);
    this.#stats.batches++;
    this.#link.ask(number, numbered(text, number), (now, reply) => this.#answered(now, number, reply));
  }

  #answered(now, number, reply) {
    this.#link.settled(number);
    const samples = this.#flight.get(number);
    this.#flight.delete(number);
    if (reply.type === "error") {
      this.#failed(now, samples, new RequestError(String(reply.code), reply.message, reply.retryable));
    } else {
      this.#failures = 0;
      this.#stats.stored += samples.length;
      this.#link.emit(stored(idsOf(samples)));
    }
    this.#pump(now);
  }

  #failed(now, samples, error) {
    if (error.retryable) {
      this.#ready.unshift(samples);
      // The other messages in flight fail for the same reason.
      if (this.#due === null) this.#due = this.#link.again(now, ++this.#failures);
      return;
    }
    // What is forbidden is the agent, which all have in common.
    if (error.code === "forbidden" || samples.length === 1) this.#refuse(samples, error);
    else this.#halve(samples);
    this.#faults = [...this.#faults, now].slice(-FAULTS);
    if (this.#faults.length === FAULTS && this.#faults[0] + MINUTE > now) this.#due = this.#faults[0] + MINUTE;
  }

  #halve(samples) {
    const middle = Math.floor(samples.length / 2);
    this.#ready.unshift(samples.slice(0, middle), samples.slice(middle));
  }

  #refuse(samples, error) {
    this.#stats.refused += samples.length;
    this.#link.emit(refused(idsOf(samples), error));
    this.#link.emit(report("telemetry", `${samples.length} samples of ${samples[0].agent} were refused: ${error.message}`));
  }
}

const idsOf = (samples) => samples.map((sample) => sample.id);

function write(samples) {
  const written = samples.map(
    ({ id, timestamp, metrics }) =>
      `{"id":${JSON.stringify(id)},"timestamp":${JSON.stringify(timestamp)},"metrics":${metrics}}`,
  );
  return `{"type":"telemetry","agentId":${JSON.stringify(samples[0].agent)},"samples":[${written.join(",")}]}`;
}
