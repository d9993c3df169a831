// returning.mjs URL TOKEN TYPE: subscribes, and comes back whenever it is closed. Writes a JSON line for all that happens.
import { Client } from "./client.mjs";

const [url, token, type] = process.argv.slice(2);
const RETRY = 200; // ms; the server of a test is soon back
const say = (what) => console.log(JSON.stringify(what));

for (;;) {
  const client = new Client(url, token);
  try {
    await client.next("connected");
    client.send({ type: "subscribe", events: [type] });
    await client.next("subscribed");
    say({ subscribed: type });
    client.socket.on("message", (text) => {
      const message = JSON.parse(text);
      if (message.type === "event") say({ event: message.data });
      if (message.type === "disconnect") say({ reconnect: message.reconnect });
    });
    const [code, reason] = await client.closed;
    say({ closed: code, reason });
  } catch {
    // Nobody is there yet.
  }
  await new Promise((resolve) => setTimeout(resolve, RETRY));
}
