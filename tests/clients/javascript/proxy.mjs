// A TCP proxy before a server, whose connections can be cut.
import { once } from "node:events";
import { connect, createServer } from "node:net";

export async function proxyOf(url) {
  const { hostname, port } = new URL(url);
  const sockets = new Set();
  const keep = (socket) => {
    sockets.add(socket);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
    return socket;
  };
  const proxy = { accepted: 0, open: 0, most: 0, refuses: false };
  const server = createServer((near) => {
    proxy.accepted++;
    proxy.most = Math.max(proxy.most, ++proxy.open);
    near.on("close", () => proxy.open--);
    if (proxy.refuses) return void near.destroy();
    const far = keep(connect(port, hostname));
    keep(near).pipe(far).pipe(near);
    near.on("close", () => far.destroy());
    far.on("close", () => near.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  proxy.url = `http://127.0.0.1:${server.address().port}`;
  proxy.cut = () => sockets.forEach((socket) => socket.resetAndDestroy());
  proxy.close = () => {
    server.close();
    proxy.cut();
  };
  return proxy;
}
