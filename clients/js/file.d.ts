/** A spool in a file, for Node. */

import type { Sample, Spool, SpoolLimits } from "./index.js";

/**
 * A spool in a file: it survives the process and a power failure; what `telemetry()` returned from is on disk. A file belongs to
 * one client of one process at a time, which `PATH.lock` says. The oldest samples are dropped when it is full.
 */
export declare class FileSpool implements Spool {
  constructor(path: string, limits?: SpoolLimits);
  readonly length: number;
  /** How many samples it has dropped. */
  readonly dropped: number;
  /** How many lines of the file could not be read. */
  readonly damaged: number;
  open(): Promise<void>;
  close(): Promise<void>;
  add(samples: Sample[]): Promise<string[]>;
  next(limit: number): Promise<Sample[]>;
  remove(ids: string[]): Promise<void>;
}
