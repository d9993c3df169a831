// WAMP by wampy.js, which returns by itself.
import { Wampy } from "wampy";
import WebSocket from "ws";
import { AUTHID, ECHO, FIRST_RETRY, REALM, SAID, say, url } from "./dialog.mjs";

async function live(cell) {
  const wampy = new Wampy(url(cell, "/ws"), {
    ws: WebSocket,
    realm: REALM,
    uriValidation: "loose",
    authid: AUTHID,
    authmethods: ["ticket"],
    onChallenge: () => cell.token,
    maxRetries: 0, // without end
    reconnectInterval: FIRST_RETRY * 1000,
    onClose: () => say(cell, "closed"),
    onReconnect: () => say(cell, "closed", { returns: true }),
    onReconnectSuccess: () => setTimeout(renewed),
  });
  // It subscribes again by itself, after it has said that it is back: to one topic after the other, each before one of these
  // calls is sent, so that it is answered before.
  const renewed = async () => {
    for (let topic = 0; topic < cell.topics.length; topic++) await wampy.call("wamp.session.count");
    say(cell, "open");
  };
  try {
    await wampy.connect();
  } catch (error) {
    return say(cell, "refused", { why: error.errorUri });
  }
  const hear = ({ argsDict }) => argsDict?.n === undefined || say(cell, "heard", { data: { n: argsDict.n } });
  for (const topic of cell.topics) await wampy.subscribe(topic, hear);
  if (cell.talks) {
    await wampy.register(ECHO + cell.name, ({ argsDict }) => ({ argsList: [argsDict.value] }));
    await wampy.publish(SAID, { argsDict: { cell: cell.name } });
  }
  say(cell, "open");
}

for (const cell of JSON.parse(process.argv.at(-1))) {
  live(cell).catch((error) => say(cell, "failed", { why: String(error.stack ?? error) }));
}
