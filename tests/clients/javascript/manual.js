
// Appended to the agent of the manual: a command to itself, a sample that is stored, the end by a signal.
await nexus.connected();
const run = nexus.call("restart", { target: "agent-001", parameters: { service: "db" } });
const said = [];
for await (const { data } of run.progress) said.push(data);
said.push(JSON.stringify(await run));
await (await nexus.telemetry({ load: 1 })).stored;
console.log(...said, "stored");
process.kill(process.pid, "SIGTERM");
await nexus.closed();
