// What becomes of one attempt to connect: "open", or "closed" and the code.
(url) =>
  new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve("open");
    socket.onclose = ({ code }) => resolve(`closed ${code}`);
  })
