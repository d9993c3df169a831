/** The spool in a file: what it keeps over ends of every kind. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdtemp, readFile, readdir, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { makeSample } from "../src/samples.js";
import { crc32 } from "../src/spool/crc.js";
import { FileSpool } from "../src/spool/file.js";

const folder = await mkdtemp(join(tmpdir(), "nexus-spool-"));
after(() => rm(folder, { recursive: true }));

let files = 0;
const newPath = () => join(folder, `${++files}.spool`);
const sample = (id, text = "") => makeSample(id, "a-1", { n: Number(id), text });
const idsOf = (samples) => samples.map(({ id }) => id);
const range = (first, last) => Array.from({ length: last - first + 1 }, (_, number) => String(first + number));

async function opened(path, limits) {
  const spool = new FileSpool(path, limits);
  await spool.open();
  return spool;
}

/** Return what the next client of a file finds. */
async function found(path) {
  const spool = await opened(path);
  const samples = await spool.next(1000);
  await spool.close();
  return samples;
}

test("the checksum is that of zip", () => {
  assert.equal(crc32(Buffer.from("123456789")), "cbf43926");
});

test("samples are given once, until the spool is opened again", async () => {
  const path = newPath();
  const spool = await opened(path);
  const made = ["1", "2", "3"].map((id) => sample(id, "ü\n\u2028"));
  assert.deepEqual(await spool.add(made), []);
  assert.deepEqual(await spool.next(2), made.slice(0, 2));
  assert.deepEqual(idsOf(await spool.next(2)), ["3"]);
  assert.deepEqual(await spool.next(2), []);
  await spool.remove(["2", "unknown"]);
  assert.equal(spool.length, 2);
  await spool.close();
  await spool.open();
  assert.deepEqual(idsOf(await spool.next(9)), ["1", "3"]);
  await spool.remove(["1", "3"]);
  assert.equal(spool.length, 0);
  await spool.close();
  assert.deepEqual(await found(path), []);
});

test("the oldest are dropped, by number and by size, also for the next client", async () => {
  const path = newPath();
  const few = await opened(path, { samples: 2 });
  await few.add(["1", "2"].map((id) => sample(id)));
  assert.deepEqual(await few.add([sample("3")]), ["1"]);
  assert.deepEqual(idsOf(await few.next(9)), ["2", "3"]);
  assert.deepEqual(await few.add(["4", "5", "6"].map((id) => sample(id))), ["2", "3", "4"]);
  assert.equal(few.dropped, 4);
  await few.close();
  assert.deepEqual(idsOf(await found(path)), ["5", "6"]);
  const small = await opened(newPath(), { size: 500 });
  assert.deepEqual(await small.add([sample("1", "x".repeat(200)), sample("2")]), []);
  assert.deepEqual(await small.add([sample("3"), sample("4")]), ["1"]);
  await small.close();
  assert.throws(() => new FileSpool(path, { samples: 0 }), { name: "TypeError" });
  assert.throws(() => new FileSpool(""), { name: "TypeError", message: /^path: / });
});

test("wherever a crash cuts the file, what was whole is there, and more can be added", async () => {
  const path = newPath();
  const spool = await opened(path);
  const ends = [(await stat(path)).size];
  for (const id of ["1", "2", "3"]) {
    await spool.add([sample(id)]);
    ends.push((await stat(path)).size);
  }
  await spool.close();
  const whole = await readFile(path);
  for (let size = 0; size <= whole.length; size++) {
    await writeFile(path, whole.subarray(0, size));
    const next = await opened(path);
    const count = Math.max(0, ends.filter((end) => end <= size).length - 1);
    assert.deepEqual(idsOf(await next.next(9)), range(1, count), `cut at ${size}`);
    await next.add([sample("9")]);
    await next.close();
    assert.deepEqual(idsOf(await found(path)), [...range(1, count), "9"], `cut at ${size}`);
  }
});

test("a damaged line costs only itself", async () => {
  const path = newPath();
  const spool = await opened(path);
  await spool.add(range(1, 3).map((id) => sample(id, `text-${id}`)));
  await spool.close();
  const data = await readFile(path);
  data[data.indexOf("text-2") + 5] ^= 1;
  await writeFile(path, data);
  const next = await opened(path);
  assert.deepEqual(idsOf(await next.next(9)), ["1", "3"]);
  assert.equal(next.damaged, 1);
  // Also if the disk fails while it is open.
  await next.add([sample("4", "text-4"), sample("5")]);
  const later = await readFile(path);
  later[later.indexOf("text-4") + 5] ^= 1;
  await writeFile(path, later);
  assert.deepEqual(idsOf(await next.next(9)), ["5"]);
  assert.deepEqual([next.damaged, next.length], [2, 3]);
  await next.close();
});

test("what cannot be read is given later", async () => {
  const path = newPath();
  const spool = await opened(path);
  await spool.add(range(1, 4).map((id) => sample(id)));
  const data = await readFile(path);
  await truncate(path, 20);
  await assert.rejects(spool.next(2), { name: "SpoolError", message: /cannot be read: the file is shorter/ });
  await writeFile(path, data);
  assert.deepEqual(idsOf(await spool.next(2)), ["1", "2"]);
  assert.deepEqual(idsOf(await spool.next(9)), ["3", "4"]);
  await spool.close();
});

test("another's file is left alone", async () => {
  const path = newPath();
  await writeFile(path, "the letters of a lifetime\n");
  await assert.rejects(opened(path), { name: "SpoolError", message: /cannot be opened: it is no spool/ });
  assert.equal(await readFile(path, "utf8"), "the letters of a lifetime\n");
  await assert.rejects(opened(join(folder, "nowhere", "spool")), { name: "SpoolError", message: /ENOENT/ });
});

test("the file does not grow by what was removed", async () => {
  const path = newPath();
  const spool = await opened(path);
  const text = "x".repeat(20_000);
  let largest = 0;
  for (let round = 0; round < 40; round++) {
    const ids = range(10 * round + 1, 10 * round + 10);
    await spool.add(ids.map((id) => sample(id, text)));
    await spool.next(10);
    await spool.remove(ids.slice(1)); // the first of each stays
    largest = Math.max(largest, (await stat(path)).size);
  }
  const kept = range(0, 39).map((round) => String(10 * Number(round) + 1));
  assert.ok(largest < 4_000_000, `${largest}`); // of 8 MB that were written
  await spool.add([sample("999")]);
  assert.deepEqual(idsOf(await spool.next(9)), ["999"]);
  await spool.close();
  const samples = await found(path);
  assert.deepEqual(idsOf(samples), [...kept, "999"]);
  assert.ok(samples.slice(0, -1).every(({ metrics }) => JSON.parse(metrics).text === text));
  const last = await opened(path);
  await last.remove([...kept, "999"]);
  await last.close();
  assert.ok((await stat(path)).size < 100);
  assert.deepEqual((await readdir(folder)).filter((name) => !name.endsWith(".spool")), []);
});

const HOLD = `
import { FileSpool } from ${JSON.stringify(new URL("../src/spool/file.js", import.meta.url).href)};
await new FileSpool(process.argv[1]).open();
console.log("open");
setInterval(() => {}, 1000);
`;

test("it belongs to one client, until that has died", async () => {
  const path = newPath();
  const spool = await opened(path);
  await assert.rejects(spool.open(), { name: "SpoolError", message: /another client/ });
  await assert.rejects(opened(path), { name: "SpoolError", message: new RegExp(`process ${process.pid} uses it`) });
  await spool.close();
  const holder = spawn(process.execPath, ["--input-type=module", "--eval", HOLD, path], { stdio: ["ignore", "pipe", "inherit"] });
  await once(holder.stdout, "data");
  await assert.rejects(opened(path), { name: "SpoolError", message: new RegExp(`process ${holder.pid} uses it`) });
  holder.kill("SIGKILL");
  await once(holder, "exit");
  const next = await opened(path);
  await assert.rejects(opened(path), { name: "SpoolError", message: /uses it/ });
  await next.close();
  for (const left of ["", "x", `${process.pid} of another birth`, "0 0"]) {
    await writeFile(`${path}.lock`, left);
    await (await opened(path)).close();
  }
});

test("of many that take the place of a dead client one gets it", async () => {
  const path = newPath();
  await (await opened(path)).close();
  for (let round = 0; round < 20; round++) {
    await writeFile(`${path}.lock`, "0 0");
    const tries = await Promise.allSettled([opened(path), opened(path)]);
    const got = tries.filter(({ status }) => status === "fulfilled");
    assert.equal(got.length, 1);
    await got[0].value.close();
  }
});

test("a second record of one sample does not count twice", async () => {
  const path = newPath();
  const spool = await opened(path);
  await spool.add([sample("1")]);
  await spool.close();
  const [header, line] = (await readFile(path, "utf8")).split("\n");
  await appendFile(path, `${line}\n`);
  assert.ok(header.startsWith("nexus-spool"));
  assert.deepEqual(idsOf(await found(path)), ["1"]);
});
