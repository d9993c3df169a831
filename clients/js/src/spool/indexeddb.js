/** A spool in a browser's database: it survives the page, the browser and a power failure. */

import { RequestError, SampleDropped, SpoolError } from "../errors.js";
import { limitsOf, sizeOf } from "./limits.js";

const SAMPLES = "samples"; // {place, id, agent, timestamp, metrics, size}
const TOTALS = "totals"; // one object: {count, bytes}
const VERSION = 1;

/**
 * A queue of samples, bounded by their number and size; the oldest are dropped.
 *
 * All tabs of an origin may have a client on the same name. One of them, which holds a Web Lock, sends for all; the browser
 * gives the lock to the next when that tab ends. It goes away too when its tab is frozen. The tabs tell each other over a
 * BroadcastChannel what was added and what became of it.
 */
export class IndexedDBSpool {
  #name;
  #limits;
  #database = null;
  #channel = null;
  #listener = null;
  #given = 0; // the place of the last sample that `next` returned
  #total = 0; // samples, as of the last look
  #isSender = false;
  #resign = () => {}; // ends the sending, or the wait for it
  dropped = 0; // by this tab

  constructor(name = "nexus-client", limits) {
    if (typeof name !== "string" || !name) throw new TypeError("name: expected a text");
    this.#name = `nexus-spool:${name}`;
    this.#limits = limitsOf(limits);
  }

  /** How many samples this tab has to send. */
  get length() {
    return this.#isSender ? this.#total : 0;
  }

  /**
   * Open the database. `listener` has `more()`: there are samples for `next`; `settled(ids, error)`: what became of samples,
   * told by another tab; and `failed(error)`: this tab cannot send. Throw `SpoolError` if it is not possible.
   */
  async open(listener) {
    if (this.#database) throw new SpoolError("the spool belongs to another client of this page");
    if (!globalThis.indexedDB) throw new SpoolError("IndexedDBSpool: this platform has no IndexedDB");
    if (!navigator.locks) throw new SpoolError("IndexedDBSpool: no Web Locks; they need a page from https or localhost");
    this.#listener = listener;
    const opening = indexedDB.open(this.#name, VERSION);
    opening.onupgradeneeded = () => {
      const samples = opening.result.createObjectStore(SAMPLES, { keyPath: "place", autoIncrement: true });
      samples.createIndex("id", "id", { unique: true });
      opening.result.createObjectStore(TOTALS);
    };
    this.#database = await result(opening);
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    globalThis.document?.addEventListener("freeze", this.#frozen);
    globalThis.document?.addEventListener("resume", this.#resumed);
    this.#apply();
  }

  async close() {
    globalThis.document?.removeEventListener("freeze", this.#frozen);
    globalThis.document?.removeEventListener("resume", this.#resumed);
    this.#resign();
    this.#channel.close();
    this.#database.close();
    this.#database = null;
  }

  /** Add samples at the end, durably; return the ids of those that were dropped for them, the oldest first. */
  async add(samples) {
    const dropped = await this.#change(async (stored, totals) => {
      for (const { id, agent, timestamp, metrics } of samples) {
        const size = sizeOf({ id, agent, metrics });
        stored.add({ id, agent, timestamp, metrics, size });
        totals.count++;
        totals.bytes += size;
      }
      return this.#shorten(stored, totals);
    });
    this.dropped += dropped.length;
    this.#channel.postMessage({ added: this.#total, dropped });
    return dropped;
  }

  /** Return the oldest samples that were not returned before, at most `limit`; none if another tab sends. */
  async next(limit) {
    if (!this.#isSender) return [];
    const stored = this.#database.transaction(SAMPLES).objectStore(SAMPLES);
    const rows = await result(stored.getAll(IDBKeyRange.lowerBound(this.#given, true), limit));
    if (rows.length) this.#given = rows.at(-1).place;
    return rows.map(({ id, agent, timestamp, metrics }) => ({ id, agent, timestamp, metrics }));
  }

  /** Remove samples that the server has stored or, with an error, never will; unknown ids are ignored. */
  async remove(ids, error) {
    // First, so that a tab that ends in between leaves nobody waiting: what is still there is sent again, and told again.
    this.#channel.postMessage({ settled: ids, error: error && { ...error, message: error.message } });
    await this.#change(async (stored, totals) => {
      for (const id of ids) {
        const row = await result(stored.index("id").get(id));
        if (!row) continue;
        stored.delete(row.place);
        totals.count--;
        totals.bytes -= row.size;
      }
    });
  }

  /** Change samples and totals in one transaction that is on disk when this returns. */
  async #change(change) {
    const transaction = this.#database.transaction([SAMPLES, TOTALS], "readwrite", { durability: "strict" });
    const finished = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    finished.catch(() => {}); // what failed in it has thrown already
    try {
      const store = transaction.objectStore(TOTALS);
      const totals = (await result(store.get(0))) ?? { count: 0, bytes: 0 };
      const changed = await change(transaction.objectStore(SAMPLES), totals);
      store.put(totals, 0);
      await finished;
      this.#total = totals.count;
      return changed;
    } catch (error) {
      if (transaction.error === null) transaction.abort();
      throw error;
    }
  }

  async #shorten(stored, totals) {
    const dropped = [];
    const opening = stored.openCursor();
    while (totals.count > this.#limits.samples || totals.bytes > this.#limits.size) {
      const cursor = await result(opening);
      if (!cursor) break;
      totals.count--;
      totals.bytes -= cursor.value.size;
      dropped.push(cursor.value.id);
      cursor.delete();
      cursor.continue();
    }
    return dropped;
  }

  /** Become the tab that sends, as soon as no other is. */
  #apply() {
    const given = new AbortController();
    let resign;
    const held = new Promise((resolve) => (resign = resolve));
    this.#resign = () => {
      this.#isSender = false;
      given.abort();
      resign();
    };
    const lead = async () => {
      this.#given = 0;
      this.#isSender = true;
      const counting = this.#database.transaction(SAMPLES).objectStore(SAMPLES).count();
      this.#total = await result(counting);
      this.#listener.more();
      await held;
    };
    navigator.locks.request(this.#name, { signal: given.signal }, lead).catch((error) => {
      if (!given.signal.aborted) this.#listener.failed(error);
    });
  }

  #frozen = () => this.#resign();

  #resumed = () => this.#apply();

  #heard({ added, dropped = [], settled = [], error = null }) {
    if (dropped.length) this.#listener.settled(dropped, new SampleDropped("the spool was full"));
    if (settled.length) this.#listener.settled(settled, error && new RequestError(error.code, error.message, error.retryable));
    if (added !== undefined && this.#isSender) {
      this.#total = added;
      this.#listener.more();
    }
  }
}

/** Return the result of a request. */
function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
