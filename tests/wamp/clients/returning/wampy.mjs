// wampy.js. It brings its subscriptions back by itself.
import { Wampy } from "wampy";
import WebSocket from "ws";
import { hear, realm, say, ticket, topic, url } from "./say.mjs";

const client = new Wampy(url, {
  realm,
  authid: "somebody",
  authmethods: ["ticket"],
  onChallenge: () => ticket,
  ws: WebSocket,
  reconnectInterval: 300,
  maxRetries: 0, // no end
  onClose: () => say({ stopped: "closed" }),
  onReconnectSuccess: () => queueMicrotask(() => say({ joined: client.getSessionId() })),
});
try {
  await client.connect();
  await client.subscribe(topic, ({ argsList: [word] }) => hear(word));
  say({ joined: client.getSessionId() });
} catch {
  // onClose says so
}
setInterval(() => {}, 1000); // Node would end, as nothing is left to wait for
