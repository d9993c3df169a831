// How the package is used in TypeScript. `tsc` checks it; nothing runs it.
import {
  type Call,
  CommandError,
  type Event,
  Gap,
  IndexedDBSpool,
  MemorySpool,
  Nexus,
  type Recorded,
  type Spool,
  type Step,
  Unsent,
} from "nexus-client";
import { FileSpool } from "nexus-client/file";

const nexus = new Nexus("https://fleet.example", {
  token: async () => "token",
  agent: "web-7",
  WebSocket,
  spool: new IndexedDBSpool("fleet", { samples: 1000 }),
  queue: 100,
});
new Nexus("ws://localhost:3000");
const spool: Spool = new MemorySpool({ size: 1 });
spool satisfies Spool;
new Nexus("ws://localhost:3000", { spool: new FileSpool("/var/lib/agent/spool", { samples: 1 }) });

const off: () => void = nexus.on("state", ({ state, retryIn, error }) => {
  const name: "connecting" | "connected" | "waiting" | "closed" = state;
  const wait: number | null = retryIn;
  console.log(name, wait, error?.message);
});
off();
nexus.on("error", ({ kind, message }) => console.log(kind === "handler", message.length));
// @ts-expect-error: no such event
nexus.on("open", () => {});

interface Blink {
  times: number;
}

nexus.command<Blink>("blink", async (call: Call, { times }) => {
  await call.progress({ at: 1 });
  call.signal.throwIfAborted();
  return { times };
});

export async function use(signal: AbortSignal): Promise<void> {
  await nexus.connected();
  const sample: Recorded = await nexus.telemetry({ cpu: 45.2, disk: { used: 0.7 }, state: "idle" }, { at: new Date() });
  await sample.stored;
  // @ts-expect-error: no metric
  await nexus.telemetry({ cpu: null });

  const run = nexus.call<Blink>("blink", { target: "web-7", parameters: { times: 3 }, signal });
  for await (const step of run.progress) {
    const { agent, data }: Step = step;
    console.log(agent, data);
  }
  const { times } = await run;
  const many = nexus.call("blink", { target: ["web-7", "web-8"] });
  for await (const outcome of many.outcomes) {
    console.log(outcome.agentId, outcome.status === "success", nexus.user?.role);
  }
  const first: Promise<number> = run.then((result) => result.times + times);
  run.cancel();
  await Promise.all([first, run]);
  // @ts-expect-error: seconds are a number
  nexus.call("blink", { timeout: "3" });

  const events = nexus.subscribe<{ id: number }>(["task.**"], { where: { id: { gt: 1 } }, since: {}, signal });
  for await (const item of events) {
    if (item instanceof Gap) {
      console.log(item.reason === "overflow", item.since);
    } else {
      const event: Event<{ id: number }> = item;
      console.log(event.data.id, event.position);
    }
  }
  localStorage.setItem("positions", JSON.stringify(events.positions));

  try {
    const position: string | null = await nexus.publish("task.done", { id: 1 }, { timeout: 3 });
    console.log(position);
  } catch (error) {
    if (error instanceof Unsent) console.log(error.maybeSent);
    if (error instanceof CommandError) console.log(error.code, error.retryable);
  }
  await nexus.close({ timeout: 1 });
}
