/** The JavaScript core does what the transcripts say, as the Python core does. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { run } from "./transcript.js";

const folder = new URL("../../transcripts/", import.meta.url);
const files = readdirSync(folder).filter((name) => name.endsWith(".json") && name !== "matching.json");

test("there are transcripts", () => assert.ok(files.length >= 70));

for (const name of files) {
  test(`transcript ${name}`, () => run(JSON.parse(readFileSync(new URL(name, folder), "utf8"))));
}
