// A connection to Nexus that is kept up: JSON over a WebSocket, as docs/protocol.md has it, in a page's few lines.

const SOON = 1000; // ms; the window of the first attempt after a loss
const LATEST = 30_000;
const STABLE = 30_000; // ms of a connection after which the windows are small again
const FINAL = new Set([1002, 1003, 1007, 1008, 1009, 4003, 4500, 4501, 4502]); // closes after which no attempt would help

export class Link {
  #url;
  #token;
  #events;
  #hooks;
  #socket = null;
  #positions = null; // by event type; null before the first connection
  #failures = 0;
  #final = false;
  #calls = new Map(); // commandId -> { progress, resolve, reject }

  // hooks: state(text), event(type, data), gap(type)
  constructor(url, token, events, hooks) {
    this.#url = `${url.replace(/^http/, "ws").replace(/\/$/, "")}/api/v1/events`;
    this.#token = token;
    this.#events = events;
    this.#hooks = hooks;
    this.#open();
  }

  // Resolves with the result of a command; progress(data) may be called before. Rejects if it fails or the connection is lost.
  call(command, parameters, target, progress) {
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) throw new Error("not connected");
      const commandId = crypto.randomUUID();
      this.#calls.set(commandId, { progress, resolve, reject });
      this.#send({ type: "command", commandId, command, parameters, target });
    });
  }

  close() {
    this.#final = true;
    this.#socket?.close(1000);
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #open() {
    this.#hooks.state("connecting");
    // As a subprotocol the token stays out of the logs of proxies. It must not hold characters such as "/" and "=" then.
    const socket = (this.#socket = new WebSocket(this.#url, ["nexus.v1.json", `nexus.bearer.${this.#token}`]));
    let stable = null;
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "connected") {
        stable = setTimeout(() => (this.#failures = 0), STABLE);
        this.#hooks.state("connected");
        const since = this.#positions === null ? {} : { since: this.#positions };
        this.#send({ type: "subscribe", events: this.#events, ...since });
      } else {
        this.#take(message);
      }
    };
    socket.onclose = ({ code, reason }) => {
      clearTimeout(stable);
      for (const { reject } of this.#calls.values()) reject(new Error("the connection is lost; the command may still be executed"));
      this.#calls.clear();
      if (this.#final || FINAL.has(code)) return this.#hooks.state(`closed: ${reason || code}`);
      // Anywhere in a growing window, so that the clients of a server that was restarted do not all return at once.
      const wait = Math.random() * Math.min(LATEST, SOON * 2 ** this.#failures++);
      this.#hooks.state(`waiting, again in ${(wait / 1000).toFixed(1)} s`);
      setTimeout(() => this.#final || this.#open(), wait);
    };
  }

  #take(message) {
    const { type, eventType, position, commandId } = message;
    if (type === "event") {
      if (position) this.#positions[eventType] = position;
      this.#hooks.event(eventType, message.data);
    } else if (type === "subscribed") {
      for (const [name, recovered] of Object.entries(message.recovered ?? {})) if (!recovered) this.#hooks.gap(name);
      this.#positions = { ...this.#positions, ...message.positions }; // where what follows begins
    } else if (type === "continuity") {
      this.#positions[eventType] = position;
      if (!message.recovered) this.#hooks.gap(eventType);
    } else if (type === "ping") {
      this.#send({ type: "pong" });
    } else if (type === "command_progress") {
      this.#calls.get(commandId)?.progress(message.data);
    } else if (type === "command_result" || type === "error") {
      const call = this.#calls.get(commandId);
      this.#calls.delete(commandId);
      if (type === "error") (call?.reject ?? console.error)(new Error(message.message));
      else call?.resolve(message.data.result);
    }
  }
}
