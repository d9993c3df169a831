/** How much a spool keeps. */

import { bytes } from "../core/messages.js";

const SAMPLES = 100_000;
const BYTES = 64 * 1024 * 1024;
const OVERHEAD = 64; // bytes of a sample beside its texts

/** Return the limits of a spool, checked: `samples` and `size` (bytes). */
export function limitsOf({ samples = SAMPLES, size = BYTES } = {}) {
  if (!(samples >= 1 && size >= 1)) throw new TypeError("samples and size: expected at least 1");
  return { samples, size };
}

/** Return the bytes that a sample takes. */
export const sizeOf = ({ id, agent, metrics }) => id.length + agent.length + bytes(metrics) + OVERHEAD;
