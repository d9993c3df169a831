// WAMP by AutobahnJS, which returns by itself: … websocket|rawsocket CELLS
import autobahn from "autobahn";
import WebSocket from "ws";
import { AUTHID, ECHO, FIRST_RETRY, LAST_RETRY, REALM, SAID, say, url } from "./dialog.mjs";

// Node has one of its own from 22 on; npm's ends the process for an error that nobody listens for, as AutobahnJS does not.
globalThis.WebSocket ??= class extends WebSocket {
  constructor(...words) {
    super(...words);
    this.on("error", () => {});
  }
};
const [carrier, cells] = process.argv.slice(-2);

function transport(cell) {
  if (carrier === "websocket") return { type: "websocket", url: url(cell, "/ws") };
  const { unix, host, port } = cell;
  return unix ? { type: "rawsocket", path: unix } : { type: "rawsocket", host, port };
}

function live(cell) {
  const connection = new autobahn.Connection({
    realm: REALM,
    transports: [transport(cell)],
    authmethods: ["ticket"],
    authid: AUTHID,
    onchallenge: () => cell.token,
    max_retries: -1,
    initial_retry_delay: FIRST_RETRY,
    max_retry_delay: LAST_RETRY,
  });
  connection.onopen = async (session) => {
    const hear = (_args, { n }) => n === undefined || say(cell, "heard", { data: { n } });
    for (const topic of cell.topics) await session.subscribe(topic, hear);
    if (cell.talks) {
      session.publish(SAID, [], { cell: cell.name });
      await session.register(ECHO + cell.name, (_args, { value }) => value);
    }
    say(cell, "open");
  };
  connection.onclose = (reason, details) => {
    if (details.reason === "wamp.error.authentication_failed") say(cell, "refused", { why: details.reason });
    else say(cell, "closed", { reason, why: details.reason, returns: details.will_retry });
  };
  connection.open();
}

for (const cell of JSON.parse(cells)) live(cell);
