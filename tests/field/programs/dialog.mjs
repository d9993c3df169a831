// What every program in JavaScript has; the same as cells.py says. Runs in Node and in a page.
export const NEWS = "field.news";
export const SAID = "field.said";
export const ECHO = "field.echo.";
export const REALM = "nexus";
export const AUTHID = "admin";
export const FIRST_RETRY = 0.2; // s
export const LAST_RETRY = 1; // s

export const say = (cell, event, more = {}) => console.log(JSON.stringify({ cell: cell.name, event, ...more }));

export const authority = ({ host, port }) => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);

// The address of a path by WebSocket; UNIX sockets are spelled as npm's `ws` has it.
export function url(cell, path) {
  if (cell.unix) return `ws+unix:${cell.unix}:${path}`;
  return `${cell.secure ? "wss" : "ws"}://${authority(cell)}${path}`;
}

// Node's `ws` and a browser's WebSocket alike.
export function live(WebSocket, cell) {
  const socket = new WebSocket(url(cell, `/api/v1/events?token=${encodeURIComponent(cell.token)}`));
  const tell = (message) => socket.send(JSON.stringify(message));
  const answers = {
    connected: () => tell({ type: "subscribe", events: cell.topics }),
    subscribed: () => {
      if (!cell.talks) return say(cell, "open");
      tell({ type: "publish", eventType: SAID, data: { cell: cell.name } });
      tell({ type: "register", commands: [ECHO + cell.name] });
    },
    registered: () => say(cell, "open"),
    event: ({ eventType, data }) => eventType === NEWS && say(cell, "heard", { data }),
    command: ({ commandId, parameters }) => tell({ type: "command_result", commandId, data: parameters.value }),
    disconnect: ({ reconnect, reason }) => say(cell, "told", { reconnect, reason }),
    error: ({ message }) => say(cell, "failed", { why: message }),
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    answers[message.type]?.(message);
  };
  socket.onclose = ({ code, reason }) => say(cell, "closed", { code, reason });
  socket.onerror = () => {}; // it is closed next
}
