// A program on the JavaScript client that does what it is told: `node driver.mjs OPTIONS`. Orders and facts: program.py.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import WebSocket from "ws";
import { Gap, Nexus } from "../../../clients/js/src/index.js";
import { FileSpool } from "../../../clients/js/src/spool/file.js";

const say = (fact, members) => process.stdout.write(JSON.stringify({ fact, ...members }) + "\n");
const options = JSON.parse(process.argv[2]);
const released = new Map();

class Socket extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, options.authority ? { ca: readFileSync(options.authority) } : {});
  }
}

const given = [];
const asking = [];
const token =
  options.token ??
  (() => {
    say("token", {});
    return given.length ? given.shift() : new Promise((resolve) => asking.push(resolve));
  });

const spool = options.spool ? new FileSpool(options.spool) : undefined;
const nexus = new Nexus(options.url, { token, agent: options.agent, WebSocket: Socket, spool });
nexus.on("state", ({ state, retryIn, error, reason }) => say("state", { state, retryIn, error: error?.name ?? null, reason }));

const hold = (number) => {
  if (!released.has(number)) {
    let open;
    const wait = new Promise((resolve) => (open = resolve));
    released.set(number, { wait, open });
  }
  return released.get(number);
};

const orders = {
  async subscribe({ patterns, where }) {
    for await (const item of nexus.subscribe(patterns, { where })) {
      const { type, position } = item;
      if (item instanceof Gap) say("gap", { type, reason: item.reason, position, since: item.since });
      else say("event", { type, data: item.data, position });
    }
  },
  token({ token }) {
    if (asking.length) asking.shift()(token);
    else given.push(token);
  },
  publish: ({ type, data }) => nexus.publish(type, data),
  async telemetry({ n, first, last }) {
    const samples = [];
    for (let number = first; number <= last; number++) samples.push(await nexus.telemetry({ number }));
    say("spooled", { n });
    await Promise.all(samples.map((sample) => sample.stored));
  },
  call: ({ command, number, target, retries }) => nexus.call(command, { parameters: { number }, target, timeout: 30, retries }),
  serve({ command }) {
    nexus.command(command, async (call, { number }) => {
      say("ran", { number });
      await hold(number).wait;
      return { number };
    });
  },
  release: ({ number }) => hold(number).open(),
  clock({ by }) {
    const real = Date.now;
    Date.now = () => real() + by * 1000;
    const RealDate = Date;
    globalThis.Date = class extends RealDate {
      constructor(...given) {
        super(...(given.length ? given : [RealDate.now()]));
      }
    };
  },
  stats: () => nexus.stats,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: what, n, ...members } = JSON.parse(line);
  if (what === "close") break;
  Promise.resolve()
    .then(() => orders[what]({ n, ...members }))
    .then(
      (result) => say("done", { n, result: result ?? null }),
      (error) => say("failed", { n, error: error.name, message: error.message, code: error.code ?? null }),
    );
}
await nexus.close();
say("over", {});
process.exit(0);
