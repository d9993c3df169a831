// What index.html does: agents and events as they come, and commands to agents.
import { Link } from "./link.js";

const SHOWN = 100; // events in the list
const page = Object.fromEntries(["login", "state", "order", "agents", "events"].map((id) => [id, document.getElementById(id)]));
let link = null;

page.login.addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  link?.close();
  const { url, token } = Object.fromEntries(new FormData(page.login));
  link = new Link(url, token, ["telemetry.received", "agent.status", "task.updated"], {
    state: (text) => (page.state.textContent = text),
    event: show,
    // A page that must be right would now ask its backend for the present state.
    gap: (type) => line(`events of ${type} may be missing here`, "gap"),
  });
});

page.order.addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const { agent, command, parameters } = Object.fromEntries(new FormData(page.order));
  const { answer } = page.order.elements;
  try {
    const progress = (step) => (answer.value = `… ${JSON.stringify(step)}`);
    answer.value = JSON.stringify(await link.call(command, JSON.parse(parameters), agent, progress));
  } catch (error) {
    answer.value = error.message;
  }
});

function show(type, data) {
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
