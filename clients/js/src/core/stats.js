/**
 * Plain counters of one client since its start; they only rise.
 *
 * * `attempts` to connect, of which `connections` reached `connected`; `garbage`: messages that violate the protocol.
 * * `events` received, `duplicates` dropped, `gaps` told.
 * * `commands` run; `busy`: commands turned away because too many ran; `repeats` answered from a running or kept execution.
 * * `stored` and `refused` samples, `batches` sent.
 */
export class Stats {
  attempts = 0;
  connections = 0;
  garbage = 0;
  events = 0;
  duplicates = 0;
  gaps = 0;
  commands = 0;
  busy = 0;
  repeats = 0;
  stored = 0;
  refused = 0;
  batches = 0;
}
