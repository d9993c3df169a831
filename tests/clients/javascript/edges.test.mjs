// The client on Node against servers that misbehave at a chosen moment.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { afterEach, test } from "node:test";
import { inspect } from "node:util";
import { WebSocketServer } from "ws";
import { agentToken, failure, hasten, make, SOCKET, until, wss } from "./world.mjs";

const shows = SOCKET === "ws"; // how a connection was refused
const servers = [];

// A server that answers the upgrade by `upgrade(socket, request, accept)`.
async function serve(upgrade) {
  const server = createServer();
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "nexus.v1.json" });
  server.on("upgrade", (request, socket, head) => {
    socket.on("error", () => {});
    upgrade(socket, request, (then) => sockets.handleUpgrade(request, socket, head, then));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  servers.push(server);
  return `http://127.0.0.1:${server.address().port}`;
}

afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

const refuse = (status, ...headers) => (socket) =>
  socket.end([`HTTP/1.1 ${status} No`, "Content-Length: 0", "Connection: close", ...headers, "", ""].join("\r\n"));

const greet = (peer, interval = 30) =>
  peer.send(JSON.stringify({ type: "connected", timestamp: new Date().toISOString(), heartbeat: { interval } }));

const quiet = (nexus) => {
  nexus.on("error", () => {});
  return nexus;
};

for (const [status, name] of [[401, "Unauthorized"], [403, "Forbidden"], [404, "Unreachable"]]) {
  test(`the upgrade is answered by ${status}`, async () => {
    const nexus = quiet(make({ token: agentToken }, await serve(refuse(status))));
    if (shows) {
      const error = await failure(nexus.connected());
      assert.equal(error.name, name);
      assert.match(error.message, new RegExp(status));
      assert.ok(!inspect(error).includes(agentToken));
    } else {
      await until(() => nexus.state === "waiting");
    }
  });
}

test("Retry-After is kept", async () => {
  const nexus = make({}, await serve(refuse(503, "Retry-After: 7")));
  const told = await new Promise((resolve) => nexus.on("state", (state) => state.state === "waiting" && resolve(state)));
  assert.ok(shows ? told.retryIn >= 7 : told.retryIn < 7, told.retryIn);
  if (shows) assert.equal(told.reason, "503 No");
});

test("a certificate that does not verify", async () => {
  const nexus = quiet(make({}, wss));
  if (shows) assert.equal((await failure(nexus.connected())).name, "Unreachable");
  else await until(() => nexus.state === "waiting");
});

for (const [what, garbage] of [["a binary message", Buffer.from("{}")], ["no JSON", "nonsense"]]) {
  test(`the server sends ${what}`, async () => {
    const closes = [];
    const url = await serve((socket, request, accept) =>
      accept((peer) => {
        peer.on("close", (code) => closes.push(code));
        greet(peer);
        peer.send(garbage);
      }),
    );
    const nexus = quiet(make({}, url));
    await until(() => nexus.state === "waiting");
    await until(() => closes.length);
    assert.deepEqual(closes, [4000]);
    assert.equal(nexus.stats.garbage, 1);
  });
}

test("closes of the server: that of a replaced agent is the end, another is not", async () => {
  const closes = [[1011, "trouble"], [4003, "Replaced"]];
  const nexus = quiet(hasten(make({}, await serve((socket, request, accept) =>
    accept((peer) => {
      greet(peer);
      peer.close(...closes.shift());
    }),
  ))));
  const error = await failure(nexus.closed());
  assert.equal(error.name, "Replaced");
  assert.match(error.message, /4003 Replaced/);
  assert.equal(nexus.stats.connections, 2);
});

test("a connection that says nothing more is given up, and a new one made", async () => {
  let accepted = 0;
  const frozen = [];
  const url = await serve((socket, request, accept) =>
    accept((peer) => {
      greet(peer, accepted++ ? 30 : 0.1);
      if (accepted === 1) frozen.push(socket.pause());
    }),
  );
  const nexus = make({}, url);
  hasten(nexus);
  await until(() => nexus.stats.connections === 2);
  assert.equal(nexus.stats.attempts, 2);
  for (const socket of frozen) socket.destroy();
});

test("what a server has not accepted in time", async () => {
  const nexus = make({ token: () => new Promise(() => {}) });
  await until(() => nexus.state === "connecting");
  await nexus.close(); // and not after 20 s
  assert.equal(nexus.state, "closed");
  const stuck = make({}, await serve(() => {}));
  await until(() => stuck.state === "connecting");
  await stuck.close();
});
