// A client that connects by TLS. Ends by itself once it was connected and closed.
import WebSocket from "ws";
import { Nexus } from "../../../clients/js/src/index.js";

const nexus = new Nexus(process.env.NEXUS_URL, { token: process.env.NEXUS_TOKEN, WebSocket });
await nexus.connected();
await nexus.close();
