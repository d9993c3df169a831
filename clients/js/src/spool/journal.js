/** The file of a spool: lines that are only ever appended, each with its checksum. */

import { constants } from "node:fs";
import { open, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "./crc.js";

const HEADER = Buffer.from("nexus-spool 1\n");
const CHUNK = 256 * 1024; // bytes that are read at once
const LONGEST = 16 * 1024 * 1024; // bytes of a line; a longer one is damaged
const NEWLINE = 10;
const CHECKSUM = 9; // characters before the JSON: eight digits and a space

/** Return a value as a line of the file. */
export function lineOf(value) {
  const json = Buffer.from(JSON.stringify(value));
  return Buffer.concat([Buffer.from(`${crc32(json)} `), json, Buffer.of(NEWLINE)]);
}

/** Return the value of a line without its end; undefined if it is damaged. */
export function valueOf(line) {
  const json = line.subarray(CHECKSUM);
  if (line[CHECKSUM - 1] !== 32 || line.toString("latin1", 0, CHECKSUM - 1) !== crc32(json)) return undefined;
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

/** One file. Only one call at a time. Errors are those of the file system. */
export class Journal {
  #path;
  #file = null;
  size = 0; // bytes of the file
  damaged = 0; // lines that could not be read

  constructor(path) {
    this.#path = path;
  }

  /**
   * Open the file, or make it; call `take(value, place, length)` with each of its lines: where it begins, and its bytes. A last
   * line that a crash has left unfinished is cut off; other damaged lines are counted and left out. Throw if the file is no spool.
   */
  async open(take) {
    this.#file = await open(this.#path, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      const { size } = await this.#file.stat();
      const head = await this.#read(0, Math.min(size, HEADER.length));
      if (head.compare(HEADER, 0, head.length) !== 0) throw new Error("it is no spool");
      this.size = HEADER.length;
      if (size < HEADER.length) {
        await this.#begin(this.#file);
        await syncDirectory(this.#path);
      } else {
        this.size = await this.#scan(size, take);
        if (this.size < size) await this.#file.truncate(this.size);
      }
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close() {
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }

  /** Append lines; return once they are on disk if `isDurable`. If that fails, none of them is there. */
  async append(lines, isDurable) {
    const data = Buffer.concat(lines);
    try {
      await writeAll(this.#file, data, this.size);
      if (isDurable) await this.#file.datasync();
    } catch (error) {
      await this.#file.truncate(this.size);
      throw error;
    }
    this.size += data.length;
  }

  /** Return the values of lines, each with its `place` and `length`, in order; undefined for one that is damaged. */
  async values(lines) {
    const found = [];
    for (const run of runsOf(lines)) {
      const data = await this.#read(run[0].place, run.bytes);
      let from = 0;
      for (const { length } of run) {
        const value = valueOf(data.subarray(from, from + length - 1));
        if (value === undefined) this.damaged++;
        found.push(value);
        from += length;
      }
    }
    return found;
  }

  async #read(place, length) {
    const data = Buffer.alloc(length);
    for (let filled = 0; filled < length; ) {
      const { bytesRead } = await this.#file.read(data, filled, length - filled, place + filled);
      if (!bytesRead) throw new Error("the file is shorter than it was");
      filled += bytesRead;
    }
    return data;
  }

  /** Remove all lines. */
  async clear() {
    await this.#file.truncate(HEADER.length);
    this.size = HEADER.length;
  }

  /**
   * Put a new file in the place of this one that has some of its lines only, each with its `place` and `length`, in order. Return
   * their new places.
   */
  async compact(lines) {
    const path = `${this.#path}.new`;
    const file = await open(path, "w+", 0o600);
    const places = [];
    let size = HEADER.length;
    try {
      await this.#begin(file);
      for (const run of runsOf(lines)) {
        await writeAll(file, await this.#read(run[0].place, run.bytes), size);
        for (const { length } of run) {
          places.push(size);
          size += length;
        }
      }
      await file.datasync();
      await rename(path, this.#path);
    } catch (error) {
      await file.close();
      await unlink(path).catch(() => {});
      throw error;
    }
    const former = this.#file;
    this.#file = file;
    this.size = size;
    await former.close().catch(() => {});
    await syncDirectory(this.#path);
    return places;
  }

  async #begin(file) {
    await writeAll(file, HEADER, 0);
    await file.datasync();
  }

  /** Take each line up to `size`. Return where the last whole one ends. */
  async #scan(size, take) {
    let begin = HEADER.length; // of the line that has no end yet
    let rest = Buffer.alloc(0);
    for (let place = begin; place < size; place += CHUNK) {
      const chunk = await this.#read(place, Math.min(CHUNK, size - place));
      let from = 0;
      for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
        const part = chunk.subarray(from, end);
        const line = rest.length ? Buffer.concat([rest, part]) : part;
        const length = place + end + 1 - begin;
        const value = length > LONGEST ? undefined : valueOf(line);
        if (value === undefined) this.damaged++;
        else take(value, begin, length);
        begin += length;
        from = end + 1;
        rest = Buffer.alloc(0);
      }
      if (rest.length < LONGEST) rest = Buffer.concat([rest, chunk.subarray(from)]);
    }
    return begin;
  }
}

/** Yield lists of lines that lie side by side, each with its `bytes`, which are bounded but for one long line. */
function* runsOf(lines) {
  let run = Object.assign([], { bytes: 0 });
  for (const line of lines) {
    if (run.length && (run.end !== line.place || run.bytes + line.length > CHUNK)) {
      yield run;
      run = Object.assign([], { bytes: 0 });
    }
    run.push(line);
    run.bytes += line.length;
    run.end = line.place + line.length;
  }
  if (run.length) yield run;
}

async function writeAll(file, data, place) {
  for (let written = 0; written < data.length; ) {
    const { bytesWritten } = await file.write(data, written, data.length - written, place + written);
    written += bytesWritten;
  }
}

/** Have a new name in a directory survive a power failure, where the system can do that. */
async function syncDirectory(path) {
  const directory = await open(dirname(path), "r").catch(() => null);
  try {
    await directory?.sync();
  } catch {
    // Windows keeps names by itself
  } finally {
    await directory?.close();
  }
}
