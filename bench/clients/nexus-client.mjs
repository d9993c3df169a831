// The JavaScript client on Node, as its README uses it: `node nexus-client.mjs CELL PORT SECONDS WARMUP`. See work.py.
import { createRequire } from "node:module";
import { Event, Nexus } from "../../clients/js/src/index.js";

const [cell, port, seconds, warmup] = process.argv.slice(2);
const { TOKEN, EVENT, AGENT, TELL, IN_FLIGHT, SENDERS, PUBLISHERS } = JSON.parse(process.env.NEXUS_BENCH_WORK);
// Node before 22 has none; that of the tests.
const WebSocket = createRequire(new URL("../../tests/", import.meta.url))("ws");

let total = 0;
let begun = null; // [total, ms, µs of CPU] at the end of the warm-up
let due = performance.now() + Number(warmup) * 1000;
let result = null;

const say = (number) => process.stdout.write(`${number}\n`);

/** Count a message, until the time is over. */
function count() {
  total++;
  if (result || performance.now() < due) return;
  const { user, system } = process.cpuUsage();
  const state = [total, performance.now(), user + system];
  if (begun) {
    const [messages, ms, cpu] = state.map((after, place) => after - begun[place]);
    result = { messages, seconds: ms / 1000, cpu: cpu / 1e6, total: 0 };
  } else {
    begun = state;
    due = state[1] + Number(seconds) * 1000;
  }
}

const nexus = new Nexus(`http://127.0.0.1:${port}`, { token: TOKEN, agent: AGENT, WebSocket });

const cells = {
  async events() {
    const stream = nexus.subscribe(EVENT);
    await stream.accepted();
    say(0);
    for await (const event of stream) {
      if (!(event instanceof Event)) throw new Error(`a gap: ${JSON.stringify(event)}`);
      if (event.data.n !== total) throw new Error(`expected event ${total}, got ${event.data.n}`);
      count();
      if (total % TELL === 0) say(total);
      if (result) return;
    }
  },
  async samples() {
    let made = 0;
    let room = IN_FLIGHT;
    const waiting = [];
    const acknowledged = () => {
      count();
      if (waiting.length) waiting.shift()();
      else room++;
    };
    const send = async () => {
      while (!result) {
        if (room) room--;
        else await new Promise((resolve) => waiting.push(resolve));
        const recorded = await nexus.telemetry({ i: made++, cpu: 45.2, memory: 62.1, status: "running" });
        recorded.stored.then(acknowledged); // a refusal ends the program
      }
    };
    await nexus.connected();
    await Promise.all(Array.from({ length: SENDERS }, send));
    while (total < made) await new Promise(setImmediate);
  },
  async publications() {
    const publish = async () => {
      while (!result) {
        await nexus.publish(EVENT, { n: total });
        count();
      }
    };
    await nexus.connected();
    await Promise.all(Array.from({ length: PUBLISHERS }, publish));
  },
};

await cells[cell]();
await nexus.close();
process.stdout.write(JSON.stringify({ ...result, total }) + "\n");
process.exit(0);
