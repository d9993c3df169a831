// Thruway.js. It brings its subscriptions back by itself; GOODBYE completes them.
import rxjs from "rxjs";
import thruway from "thruway.js";
import { hear, realm, say, ticket, topic, url } from "./say.mjs";

console.log = console.error = () => {};
const retryOptions = { maxRetryDelay: 300, initialRetryDelay: 100, retryDelayGrowth: 1 };
const client = new thruway.Client(url, realm, {
  retryOptions,
  authmethods: ["ticket"],
  authid: "somebody",
});
client.onChallenge(() => rxjs.Observable.of(ticket));
client.onError.subscribe(() => say({ refused: "" }));
client.onOpen.subscribe(({ welcomeMsg }) => setTimeout(() => say({ joined: welcomeMsg.sessionId }), 100));
client.topic(topic).subscribe({
  next: ({ args: [word] }) => hear(word),
  complete: () => say({ stopped: "complete" }),
});
