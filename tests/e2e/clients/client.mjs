// A client over npm's `ws`: what a script waits for is awaited.
import WebSocket from "ws";

const PATIENCE = 20_000; // ms

export class Client {
  // `carrier` says where the token goes: "query" or "header".
  constructor(url, token, carrier = "query") {
    this.messages = [];
    this.wake = () => {};
    const headers = carrier === "header" ? { Authorization: `Bearer ${token}` } : {};
    this.socket = new WebSocket(carrier === "query" ? `${url}?token=${token}` : url, { headers });
    this.socket.on("message", (data, isBinary) => {
      if (isBinary) throw new Error("a binary frame");
      this.messages.push(JSON.parse(data));
      this.wake();
    });
    this.closed = new Promise((resolve) => {
      this.socket.on("close", (code, reason) => resolve([code, String(reason)]));
    });
    this.socket.on("error", (error) => (this.trouble = error));
    this.closed.then(() => this.wake());
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  // The next message of that type; those before it are passed over.
  async next(type) {
    const end = Date.now() + PATIENCE;
    for (;;) {
      while (this.messages.length > 0) {
        const message = this.messages.shift();
        if (message.type === type) return message;
      }
      if (this.socket.readyState === WebSocket.CLOSED) throw this.trouble ?? new Error(`closed while waiting for ${type}`);
      if (Date.now() > end) throw new Error(`waited in vain for ${type}`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, end - Date.now());
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  async leave() {
    this.socket.close(1000);
    return this.closed;
  }
}
