// Follows the stream of outcomes. Everything it writes is text: nothing of a record becomes markup.
"use strict";

const KEPT = 500;
const SPOKEN_EVERY_MS = 5000;

const tail = document.getElementById("tail");
const rows = document.getElementById("rows");
const nothing = document.getElementById("nothing");
const connection = document.getElementById("connection");
const summary = document.getElementById("summary");
const pause = document.getElementById("pause");

tail.hidden = false;
document.getElementById("scriptless").hidden = true;

let paused = false;
let held = [];
let unspoken = 0;
let leftOut = 0;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function cell(label, ...content) {
  const made = element("td");
  made.setAttribute("role", "cell");
  made.dataset.label = label;
  made.append(...content);
  return made;
}

function row(outcome) {
  const made = element("tr");
  made.setAttribute("role", "row");
  made.dataset.event = outcome.event_id;
  const kind = outcome.outcome.toLowerCase();
  const type = [element("span", outcome.event_type || "not readable", "type")];
  if (outcome.sentence) type.push(element("span", outcome.sentence, "sentence"));
  const event = element("a");
  event.href = outcome.address;
  event.append(element("code", outcome.event_id));
  const [date, clock] = outcome.time.split(" ");
  const time = element("time");
  time.append(element("span", date), ` ${clock}`);
  made.append(
    cell("Outcome", element("span", kind, `pill pill-${kind}`)),
    outcome.status ? cell("Status", element("span", outcome.status, "type")) : cell("Status"),
    cell("Event type", ...type),
    cell("Tenant", element("code", outcome.tenant_id)),
    cell("Work order", element("code", outcome.work_order_id || "")),
    cell("Event", event),
    cell("Created", time),
  );
  return made;
}

function show(outcomes) {
  if (!outcomes.length) return;
  const newest = document.createDocumentFragment();
  for (const outcome of outcomes.toReversed()) newest.append(row(outcome));
  rows.prepend(newest);
  while (rows.children.length > KEPT) rows.lastElementChild.remove();
  nothing.hidden = true;
  unspoken += outcomes.length;
}

let waiting = [];
let drawing = false;

function add(outcome) {
  if (paused) {
    held.push(outcome);
    held = held.slice(-KEPT);
    pause.textContent = `Continue (${held.length} new)`;
    return;
  }
  waiting.push(outcome);
  if (waiting.length > KEPT) waiting.shift(); // a browser draws nothing in a hidden tab
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    show(waiting);
    waiting = [];
  });
}

function state(name, text) {
  connection.dataset.state = name;
  connection.textContent = text;
}

const source = new EventSource(tail.dataset.stream);
source.addEventListener("open", () => state("open", "following"));
source.addEventListener("error", () => state("broken", source.readyState === EventSource.CLOSED ? "ended: reload the page" : "connecting again"));
source.addEventListener("outcome", (message) => add(JSON.parse(message.data)));
source.addEventListener("left_out", (message) => {
  leftOut += JSON.parse(message.data).rows;
});
source.addEventListener("gap", () => {
  rows.replaceChildren();
  summary.textContent = "The connection was lost for so long that rows are missing. These are the newest.";
});
source.addEventListener("alive", (message) => {
  const failure = JSON.parse(message.data).failure;
  if (failure) state("broken", failure);
  else state("open", "following");
});

pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Continue" : "Pause";
  if (!paused) {
    show(held);
    held = [];
  }
});

// A screen reader hears how many came, not each of them.
setInterval(() => {
  if (!unspoken && !leftOut) return;
  summary.textContent = leftOut
    ? `${unspoken} new outcomes, and ${leftOut} that came too fast to be shown`
    : `${unspoken} new outcome${unspoken === 1 ? "" : "s"}`;
  unspoken = 0;
  leftOut = 0;
}, SPOKEN_EVERY_MS);
