// JSON by npm's `ws`, which does not return by itself.
import WebSocket from "ws";
import { live } from "./dialog.mjs";

for (const cell of JSON.parse(process.argv.at(-1))) live(WebSocket, cell);
