// What index.html does: agents and events as they come, and commands to agents.
import { Gap, Nexus } from "nexus-client";

const SHOWN = 100; // events in the list
const PATIENCE = 60; // s that a command may wait for an agent that is away
const page = Object.fromEntries(["login", "state", "order", "agents", "events"].map((id) => [id, document.getElementById(id)]));
let nexus = null;

page.login.addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const { url, token } = Object.fromEntries(new FormData(page.login));
  nexus?.close();
  try {
    const client = (nexus = new Nexus(url, { token }));
    client.on("state", (state) => client === nexus && tell(state));
    watch(client);
  } catch (error) {
    page.state.textContent = error.message; // of a malformed address or token
  }
});

page.order.addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const { agent, command, parameters } = Object.fromEntries(new FormData(page.order));
  const { answer } = page.order.elements;
  answer.value = "…";
  try {
    if (nexus === null) throw new Error("not connected");
    // The client sends it again if the connection is lost; the agent executes it once.
    const run = nexus.call(command, { target: agent, parameters: JSON.parse(parameters), ttl: PATIENCE });
    for await (const { data } of run.progress) answer.value = `… ${JSON.stringify(data)}`;
    answer.value = JSON.stringify(await run);
  } catch (error) {
    answer.value = error.message;
  }
});

function tell({ state, retryIn, reason, error }) {
  const more = { waiting: `, again in ${retryIn?.toFixed(1)} s: ${reason}`, closed: `: ${error?.message}` };
  page.state.textContent = state + (more[state] ?? "");
}

async function watch(client) {
  try {
    for await (const item of client.subscribe(["telemetry.received", "agent.status", "task.updated"])) {
      // A page that must be right would now ask its backend for the present state.
      if (item instanceof Gap) line(`events of ${item.type} may be missing here`, "gap");
      else show(item);
    }
  } catch (error) {
    line(error.message, "gap");
  }
}

function show({ type, data }) {
  const { agentId, metrics, status } = data;
  if (type === "telemetry.received") cells(agentId)[2].textContent = JSON.stringify(metrics);
  if (type === "agent.status") cells(agentId)[1].textContent = status;
  line(`${type} ${JSON.stringify(data)}`);
}

function line(text, className = "") {
  const item = document.createElement("li");
  item.textContent = text;
  item.className = className;
  page.events.prepend(item);
  while (page.events.childElementCount > SHOWN) page.events.lastElementChild.remove();
}

function cells(agentId) {
  const known = [...page.agents.rows].find((row) => row.dataset.agent === agentId);
  if (known) return known.cells;
  const row = page.agents.insertRow();
  row.dataset.agent = agentId;
  row.insertCell().textContent = agentId;
  row.insertCell();
  row.insertCell();
  return row.cells;
}
