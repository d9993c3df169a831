// The module of the package as it is, without a bundler. What tests ask is in `page`.
import { Gap, IndexedDBSpool, Nexus } from "nexus-client";

const parameters = new URLSearchParams(location.search);
const spool = parameters.get("spool");

export const nexus = new Nexus(parameters.get("url"), {
  token: parameters.get("token"),
  agent: parameters.get("agent"),
  ...(spool && { spool: new IndexedDBSpool(spool, { samples: 50 }) }),
});

const states = [];
const problems = [];
const seen = [];
const stored = [];
nexus.on("state", ({ state }) => states.push(state));
nexus.on("error", ({ kind, message }) => problems.push(`${kind}: ${message}`));
nexus.command("title", (_call, { title }) => (document.title = title));

const stream = nexus.subscribe("page.**");

async function watch() {
  for await (const item of stream) seen.push(item instanceof Gap ? item.reason : item.data);
}

globalThis.page = {
  nexus,
  states,
  problems,
  seen,
  stored,
  stream,
  watching: watch(),
  // Spool samples with these numbers; say when each is stored.
  async measure(first, last) {
    for (let n = first; n <= last; n++) {
      const sample = await nexus.telemetry({ n });
      sample.stored.then(
        () => stored.push(n),
        (error) => stored.push(error.name),
      );
    }
  },
};
