// wampy.mjs PORT USERS: wampy.js with each serializer, and as each user (JSON, by name).
import assert from "node:assert/strict";
import { Wampy } from "wampy";
import { CborSerializer } from "wampy/CborSerializer.js";
import { JsonSerializer } from "wampy/JsonSerializer.js";
import { MsgpackSerializer } from "wampy/MsgpackSerializer.js";
import * as cryptosign from "wampy/cryptosign.js";
import * as wampcra from "wampy/wampcra.js";
import WebSocket from "ws";
import { Queue, backwards, failure, report } from "./cases.mjs";

const url = `ws://127.0.0.1:${process.argv[2]}/ws`;
const users = JSON.parse(process.argv[3]);
const PUBLIC_KEY = "ddc2838ede4304c1082c503f0af4f0c5ea7dea9fe436127643364c0670b69b08"; // of the user of cryptosign
const SERIALIZERS = { json: JsonSerializer, msgpack: MsgpackSerializer, cbor: CborSerializer };

// What the language can say and other serializers cannot; of it so many are refused, each for that call alone.
const ODD = {
  json: ["\ud800", "\0", NaN],
  msgpack: ["\ud800", "\0", NaN, -Infinity, new Date(NaN), new Map([[1, 2]])],
  cbor: ["\ud800", "\0", NaN, -Infinity, 2n ** 70n, new Map([[1, 2]]), new Set([1])],
};
const REFUSED = { json: 1, msgpack: 3, cbor: 2 };

async function connect(serializer, more = {}) {
  const client = new Wampy(url, {
    realm: "realm1",
    ws: WebSocket,
    autoReconnect: false,
    serializer: new SERIALIZERS[serializer](),
    ...more,
  });
  return { client, welcome: await client.connect() };
}

function join(serializer, { method, authid, secret }) {
  const sign = { ticket: () => () => secret, wampcra: wampcra.sign, cryptosign: cryptosign.sign }[method];
  const authextra = method === "cryptosign" ? { pubkey: PUBLIC_KEY } : {};
  const authPlugins = { [method]: sign(secret) };
  return connect(serializer, { authid, authmethods: [method], authMode: "auto", authPlugins, authextra });
}

async function converse(serializer, uri) {
  const { client: one, welcome } = await connect(serializer);
  const { client: other } = await connect(serializer);
  const events = new Queue();
  const hear = ({ argsList, argsDict, details }) => events.put([argsList, argsDict, details]);

  await one.subscribe(uri, hear, { match: "prefix" });
  const payload = { argsList: [1, "ä", null, 2.5, [true, { deep: [] }]], argsDict: { more: { a: 1 } } };
  const { publicationId } = await other.publish(`${uri}.done`, payload);
  const [args, kwargs, details] = await events.get();
  assert.deepEqual([args, kwargs], [payload.argsList, payload.argsDict]);
  assert.equal(details.topic, `${uri}.done`);
  assert.ok(publicationId > 0);
  await other.publish(uri, "nobody", { exclude_authid: [welcome.authid] });
  await other.publish(uri, "nobody", { exclude: [one.getSessionId()] });
  await other.publish(uri, "one", { eligible_authid: [welcome.authid] });
  assert.deepEqual((await events.get())[0], ["one"]);
  if (serializer !== "json") {
    await other.publish(uri, [Buffer.from([0, 255, 1])]);
    assert.deepEqual(Buffer.from((await events.get())[0][0]), Buffer.from([0, 255, 1]));
  }
  await other.publish(uri, { argsList: [undefined, 1], argsDict: { comment: undefined } });
  const [undefinedArgs, undefinedKwargs] = await events.get();
  assert.deepEqual([undefinedArgs, undefinedKwargs?.comment ?? null], [[null, 1], null]);
  const sealed = { ppt_scheme: "x_nexus", ppt_serializer: "json", ppt_keyid: "k1" };
  await other.publish(uri, { argsList: [1], argsDict: { a: 2 } }, sealed);
  const [sealedArgs, sealedKwargs, sealedDetails] = await events.get();
  assert.deepEqual([sealedArgs, sealedKwargs, sealedDetails.ppt_scheme], [[1], { a: 2 }, "x_nexus"]);
  const { subscriptionKey } = await one.subscribe(`${uri}.passing`, hear); // with options it could not be ended
  await one.unsubscribe(subscriptionKey);

  await one.register(`${uri}.echo`, ({ argsList, argsDict }) => ({ argsList, argsDict }));
  await one.register(`${uri}.fail`, ({ error_handler }) => {
    error_handler({ error: `${uri}.no`, argsList: ["because"], argsDict: { code: 7 } });
  });
  await one.register(
    `${uri}.count`,
    ({ argsList, result_handler }) => {
      for (let number = 0; number < argsList[0]; number++) {
        result_handler({ argsList: [number], options: { progress: true } });
      }
      return { argsList };
    },
    { invoke: "roundrobin" },
  );
  await one.register(`${uri}.hang`, () => new Promise(() => {}));
  const result = await other.call(`${uri}.echo`, { argsList: [1, "two"], argsDict: { three: [3] } });
  assert.deepEqual([result.argsList, result.argsDict], [[1, "two"], { three: [3] }]);
  await one.register(`${uri}.sealed`, ({ argsList }) => ({ argsList, options: sealed }));
  const opened = await other.call(`${uri}.sealed`, [1, "two"], sealed);
  assert.deepEqual([opened.argsList, opened.details.ppt_keyid], [[1, "two"], "k1"]);
  const refusals = [];
  const echoed = await other.call(`${uri}.echo`, { argsDict: { comment: undefined, at: 1 } });
  assert.deepEqual([echoed.argsDict.comment ?? null, echoed.argsDict.at], [null, 1]);
  for (const odd of ODD[serializer]) await other.call(`${uri}.echo`, [odd]).catch((error) => refusals.push(error.errorUri));
  assert.deepEqual(refusals, Array(REFUSED[serializer]).fill("wamp.error.invalid_argument"));
  assert.deepEqual((await other.call(`${uri}.echo`, ["after"])).argsList, ["after"]);
  if (serializer === "cbor") {
    const { argsList } = await other.call(`${uri}.echo`, { argsList: [Uint16Array.of(1, 65535)] });
    assert.deepEqual(argsList, [Uint16Array.of(1, 65535)]);
  }
  const error = await failure(other.call(`${uri}.fail`));
  assert.deepEqual([error.errorUri, error.argsList, error.argsDict], [`${uri}.no`, ["because"], { code: 7 }]);
  const progress = [];
  const counted = await other.call(`${uri}.count`, 3, { progress_callback: ({ argsList }) => progress.push(argsList[0]) });
  assert.deepEqual([counted.argsList, progress], [[3], [0, 1, 2]]);
  const late = await failure(other.call(`${uri}.hang`, null, { timeout: 50 }));
  assert.equal(late.errorUri, "wamp.error.timeout");
  const hanging = other.call(`${uri}.hang`);
  other.cancel(other.getOpStatus().reqId, { mode: "killnowait" });
  assert.equal((await failure(hanging)).errorUri, "wamp.error.canceled");
  await one.unregister(`${uri}.echo`);
  const gone = await failure(other.call(`${uri}.echo`));
  assert.equal(gone.errorUri, "wamp.error.no_such_procedure");
  await one.disconnect();
  await other.disconnect();
}

async function introduce(user) {
  const { client, welcome } = await join("json", user);
  assert.deepEqual([welcome.authid, welcome.authrole, welcome.authmethod], [user.authid, "user", user.method]);
  await client.disconnect();
  for (const stranger of [{ ...user, secret: backwards(user.secret) }, { ...user, authid: "nobody" }]) {
    const error = await failure(join("json", stranger));
    assert.equal(error.errorUri, "wamp.error.authentication_failed");
  }
}

const cases = {};
for (const serializer of Object.keys(SERIALIZERS)) {
  cases[`ws-${serializer}`] = () => converse(serializer, `com.example.wampy.${serializer}`);
}
for (const [name, user] of Object.entries(users)) cases[name] = () => introduce(user);
await report(cases);
