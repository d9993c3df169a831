/** Who owns a file: one process at a time, and nobody once it has died. */

import { link, open, readFile, rename, unlink } from "node:fs/promises";

let drafts = 0;

/** Return a name beside a path that nothing else has. */
const beside = (path) => `${path}.${process.pid}-${++drafts}`;

/** Take the lock, a file of this path. Throw if a process that lives has it. */
export async function lock(path) {
  const mine = `${process.pid} ${await birth(process.pid)}`;
  for (;;) {
    if (await write(path, mine)) return;
    const owner = await readFile(path, "utf8").catch(() => null);
    if (owner === null) continue; // given back in this moment
    if (await lives(owner)) throw new Error(`the process ${owner.split(" ")[0]} uses it`);
    await remove(path, owner);
  }
}

/** Give it back. */
export const unlock = (path) => unlink(path);

/** Write a file that is not there yet, whole. Return whether it was not there. */
async function write(path, text) {
  const draft = beside(path);
  const file = await open(draft, "w", 0o600);
  try {
    await file.writeFile(text);
    await link(draft, path);
    return true;
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  } finally {
    await file.close();
    await unlink(draft);
  }
}

/** Remove the lock of a process that has died; one that another process has taken meanwhile is put back. */
async function remove(path, owner) {
  const aside = beside(path);
  try {
    await rename(path, aside);
  } catch (error) {
    if (error.code === "ENOENT") return; // another process was faster
    throw error;
  }
  if ((await readFile(aside, "utf8")) !== owner) await link(aside, path).catch(() => {});
  await unlink(aside);
}

async function lives(owner) {
  const [pid, born] = owner.split(" ");
  if (!/^[1-9][0-9]*$/.test(pid)) return false; // its writing was cut short
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if (error.code !== "EPERM") return false;
  }
  return (await birth(pid)) === born; // else another process has got its number
}

/** Return when a process began, in the system's own words; empty where it does not tell. */
async function birth(pid) {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}
