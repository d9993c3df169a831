// driver.cjs CLIENT URL TOKEN: makes the class that the file CLIENT exports do what its methods are for. Events are written
// as JSON lines; the rest is what the class itself logs. It stays until it is ended.
const path = require("node:path");

const [file, url, token] = process.argv.slice(2);
const Client = require(path.resolve(file));
const client = new Client(url, token);

async function main() {
  await client.connect();
  client.subscribe(["task.updated", "agent.status"], (data) => console.log(JSON.stringify({ heard: data })));
  client.sendTelemetry("agent-001", { cpu: 45.2, memory: 62.8, taskCount: 3 });
  client.sendCommand("deploy", { version: "1.2.3", target: "production" });
  client.subscribe(["build.done"], () => console.log(JSON.stringify({ unwanted: true })));
  client.unsubscribe(["build.done"]);
}

main();
