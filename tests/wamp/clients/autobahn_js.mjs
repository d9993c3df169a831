// autobahn_js.mjs PORT USERS: AutobahnJS over WebSocket with each serializer, over RawSocket, and as each user (JSON, by name).
import assert from "node:assert/strict";
import autobahn from "autobahn";
import WebSocket from "ws";
import { Queue, backwards, failure, report } from "./cases.mjs";

const port = Number(process.argv[2]);
const users = JSON.parse(process.argv[3]);
globalThis.WebSocket ??= WebSocket; // Node has one of its own from 22 on
const SERIALIZERS = {
  json: autobahn.serializer.JSONSerializer,
  msgpack: autobahn.serializer.MsgpackSerializer,
  cbor: autobahn.serializer.CBORSerializer,
};
const websocket = (serializer) => ({
  url: `ws://127.0.0.1:${port}/ws`,
  serializers: [new SERIALIZERS[serializer]()],
});
const rawsocket = { transports: [{ type: "rawsocket", host: "127.0.0.1", port }] };

// An open connection; fails with the reason why there is none.
function connect(transport, more = {}) {
  const connection = new autobahn.Connection({ realm: "realm1", max_retries: 0, ...transport, ...more });
  const gone = new Promise((resolve) => {
    connection.onclose = (reason, details) => {
      resolve(details.reason ?? reason);
      return true; // it does not try again
    };
  });
  return new Promise((resolve, reject) => {
    connection.onopen = (session, details) => resolve({ connection, session, details, gone });
    gone.then((reason) => reject(new Error(reason)));
    connection.open();
  });
}

function proof({ method, secret }) {
  if (method === "ticket") return () => secret;
  if (method === "wampcra") {
    return (_session, _method, { challenge, salt, iterations, keylen }) => {
      const key = salt ? autobahn.auth_cra.derive_key(secret, salt, iterations, keylen) : secret;
      return autobahn.auth_cra.sign(key, challenge);
    };
  }
  const pair = autobahn.nacl.sign.keyPair.fromSeed(Buffer.from(secret, "hex"));
  const sign = (_session, _method, extra) => autobahn.auth_cryptosign.sign_challenge(pair, extra);
  return Object.assign(sign, { authextra: { pubkey: autobahn.auth_cryptosign.public_key(pair), channel_binding: null } });
}

function join(transport, user) {
  const onchallenge = proof(user);
  const { authextra } = onchallenge;
  return connect(transport, { authmethods: [user.method], authid: user.authid, onchallenge, authextra });
}

async function converse(transport, uri, binary) {
  const one = await connect(transport);
  const other = await connect(transport);
  const events = new Queue();
  const hear = (args, kwargs, details) => events.put([args, kwargs, details]);

  const subscription = await one.session.subscribe(uri, hear, { match: "prefix" });
  const values = [1, "ä", null, 2.5, [true, { deep: [] }]];
  const publication = await other.session.publish(`${uri}.done`, values, { more: { a: 1 } }, { acknowledge: true });
  const [args, kwargs, details] = await events.get();
  assert.deepEqual([args, kwargs], [values, { more: { a: 1 } }]);
  assert.deepEqual([details.topic, details.publication], [`${uri}.done`, publication.id]);
  await one.session.publish(`${uri}.self`, ["self"], {}, { acknowledge: true, exclude_me: false });
  assert.deepEqual((await events.get())[0], ["self"]);
  await other.session.publish(uri, ["nobody"], {}, { acknowledge: true, exclude: [one.session.id] });
  await other.session.publish(uri, ["one"], {}, { acknowledge: true, eligible: [one.session.id] });
  assert.deepEqual((await events.get())[0], ["one"]);
  if (binary) {
    other.session.publish(uri, [Buffer.from([0, 255, 1])]);
    assert.deepEqual(Buffer.from((await events.get())[0][0]), Buffer.from([0, 255, 1]));
  }
  await one.session.unsubscribe(subscription);

  const echo = (args, kwargs) => new autobahn.Result(args, kwargs);
  const fail = () => {
    throw new autobahn.Error(`${uri}.no`, ["because"], { code: 7 });
  };
  const count = (args, _kwargs, { progress }) => {
    for (let number = 0; number < args[0]; number++) progress?.([number]);
    return args[0];
  };
  const registration = await one.session.register(`${uri}.echo`, echo);
  await one.session.register(`${uri}.fail`, fail);
  await one.session.register(`${uri}.count`, count, { invoke: "roundrobin" });
  await one.session.register(`${uri}.hang`, () => new Promise(() => {}));
  const result = await other.session.call(`${uri}.echo`, [1, "two"], { three: [3] });
  assert.deepEqual([result.args, result.kwargs], [[1, "two"], { three: [3] }]);
  const error = await failure(other.session.call(`${uri}.fail`));
  assert.deepEqual([error.error, error.args, error.kwargs], [`${uri}.no`, ["because"], { code: 7 }]);
  const progress = [];
  const call = other.session.call(`${uri}.count`, [3], {}, { receive_progress: true });
  assert.equal(await call.then(null, null, (part) => progress.push(part)), 3);
  assert.deepEqual(progress, [0, 1, 2]);
  const hanging = other.session.call(`${uri}.hang`, [], {}, { timeout: 50 });
  assert.equal((await failure(hanging)).error, "wamp.error.timeout");
  const cancelled = other.session.call(`${uri}.hang`);
  cancelled.cancel({ mode: "kill" });
  assert.equal((await failure(cancelled)).error, "wamp.error.canceled");
  await one.session.unregister(registration);
  assert.equal((await failure(other.session.call(`${uri}.echo`))).error, "wamp.error.no_such_procedure");
  assert.ok((await other.session.call("wamp.session.list")).includes(one.session.id));

  for (const { connection, gone } of [one, other]) {
    connection.close();
    await gone;
  }
}

async function introduce(name, user) {
  const { connection, details, gone } = await join(websocket("json"), user);
  assert.deepEqual([details.authid, details.authrole, details.authmethod], [user.authid, "user", user.method], name);
  connection.close();
  await gone;
  for (const stranger of [{ ...user, secret: backwards(user.secret) }, { ...user, authid: "nobody" }]) {
    assert.equal((await failure(join(websocket("json"), stranger))).message, "wamp.error.authentication_failed");
  }
}

const cases = {};
for (const serializer of Object.keys(SERIALIZERS)) {
  const uri = `com.example.autobahn_js.${serializer}`;
  cases[`ws-${serializer}`] = () => converse(websocket(serializer), uri, serializer !== "json");
}
cases["rs-json"] = () => converse(rawsocket, "com.example.autobahn_js.rawsocket", false);
for (const [name, user] of Object.entries(users)) cases[name] = () => introduce(name, user);
await report(cases);
