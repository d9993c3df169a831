/** One WebSocket: a browser's, Node's own, or one of npm's `ws`. */

// Seconds that a dropped socket has to end by a handshake, where it cannot be destroyed. After that the other end is dead, or so
// slow that it is of no use; Chromium would wait for a minute. What it still receives is not heard.
const LINGER = 3;
const OPEN = 1;
const CALM = 64 * 1024; // bytes that may wait to be sent while others write on
const GLANCE = 0.02; // seconds between looks at how much waits
const VIOLATION = 4000; // what an application may send instead of 1002 and 1003, which are the library's
const CERTIFICATE = /^(CERT_|DEPTH_ZERO_SELF|SELF_SIGNED|UNABLE_TO_(GET|VERIFY|DECRYPT|DECODE)|ERR_TLS_CERT|INVALID_CA)/;

/**
 * Report the socket's life to `owner`: `opened()`, `received(text)`, `binary()`, then exactly one `lost(code, reason)`, or one
 * `refused(status, retryAfter, detail, {certificate})` if it was never open.
 */
export class Socket {
  #owner;
  #socket;
  #isOpen = false;
  #isOver = false;
  #isOurEnd = false; // this side began to close, or the library found a violation
  #refusal = { status: null, retryAfter: null, detail: "no connection", certificate: false };
  #linger;

  constructor(owner, WebSocket, url, protocols) {
    this.#owner = owner;
    const socket = new WebSocket(url, protocols);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#opened();
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onerror = (event) => this.#failed(event);
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    // Only `ws` shows the answer to a refused upgrade.
    socket.on?.("unexpected-response", (_request, response) => this.#refused(response));
  }

  /** Send a text message; nothing once the connection closes. */
  say(text) {
    if (this.#socket.readyState === OPEN) this.#socket.send(text);
  }

  /** Begin the closing handshake. */
  bidFarewell(code, reason) {
    this.#isOurEnd = true;
    this.#socket.close(code === 1000 || code >= 3000 ? code : VIOLATION, reason);
  }

  /** End it without a handshake; with one that nobody waits for, where that is all there is. */
  abort() {
    this.#isOurEnd = true;
    if (this.#socket.terminate) {
      this.#socket.terminate();
    } else {
      this.#socket.close();
      this.#linger ??= setTimeout(() => this.#closed(1006, "given up"), LINGER * 1000);
    }
  }

  /** Return once the network has taken most of what was sent, or the connection has ended. */
  async drained() {
    while (this.#socket.readyState === OPEN && this.#socket.bufferedAmount > CALM) {
      await new Promise((resolve) => setTimeout(resolve, GLANCE * 1000));
    }
  }

  #opened() {
    this.#isOpen = true;
    this.#owner.opened();
  }

  #received(data) {
    if (this.#isOver) return;
    if (typeof data === "string") this.#owner.received(data);
    else this.#owner.binary();
  }

  #failed({ error, message }) {
    this.#isOurEnd = true;
    // Node's own WebSocket reports no close if it never opened.
    if (!this.#isOpen && !this.#socket.terminate) this.#linger ??= setTimeout(() => this.#closed(1006, ""));
    if (this.#refusal.status !== null) return;
    const code = error?.code ?? error?.cause?.code;
    this.#refusal.detail = code ?? message ?? this.#refusal.detail;
    this.#refusal.certificate = CERTIFICATE.test(code ?? "");
  }

  #refused({ statusCode, statusMessage, headers }) {
    const retryAfter = /^[0-9]+$/.test(headers["retry-after"] ?? "") ? Number(headers["retry-after"]) : null;
    this.#refusal = { status: statusCode, retryAfter, detail: statusMessage, certificate: false };
    this.#socket.terminate();
  }

  #closed(code, reason) {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#linger);
    if (!this.#isOpen) this.#owner.refused(this.#refusal);
    else if (this.#isOurEnd) this.#owner.lost(1006, this.#refusal.detail);
    else this.#owner.lost(code, reason);
  }
}
