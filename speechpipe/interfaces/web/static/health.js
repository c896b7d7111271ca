// Updates the page: fetches the report's body every few seconds, with the filters of the form.
const form = document.querySelector("#filters");
const body = document.querySelector("#body");
const status = document.querySelector("#status");
const EVERY_MS = 5000;
let timer = 0;
let asked = 0;

function query() {
  const values = new FormData(form);
  const found = new URLSearchParams();
  for (const name of ["minutes", "tenant_class", "channel", "bundle"]) {
    if (values.get(name)) found.set(name, values.get(name));
  }
  return found;
}

function headers() {
  const key = new FormData(form).get("key");
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function opened() {
  return [...body.querySelectorAll("details")].map((item) => item.open);
}

async function update() {
  clearTimeout(timer);
  const mine = ++asked;
  try {
    const answer = await fetch(`v1/health/page?${query()}`, { headers: headers() });
    if (mine !== asked) return; // the filters changed meanwhile
    if (answer.ok) {
      const open = opened();
      const focused = document.activeElement?.dataset?.acknowledge;
      body.innerHTML = await answer.text();
      body.querySelectorAll("details").forEach((item, index) => { item.open = Boolean(open[index]); });
      if (focused) body.querySelector(`[data-acknowledge="${focused}"]`)?.focus();
      status.textContent = `updated ${new Date().toLocaleTimeString()}`;
      offer(JSON.parse(answer.headers.get("x-speechpipe-bundles") || "[]"));
    } else {
      const said = await answer.json().catch(() => null);
      status.textContent = said?.error?.message ?? `the server answers ${answer.status}`;
    }
  } catch {
    status.textContent = "the server cannot be reached";
  }
  await showRollout();
  if (form.elements.follow.checked) timer = setTimeout(update, EVERY_MS);
}

// Whether the user has changed a field.
function isChanged(field) {
  if (field.type !== "select-one") return field.value !== field.defaultValue;
  const preset = [...field.options].find((option) => option.defaultSelected) ?? field.options[0];
  return field.value !== preset?.value;
}

// Updates a panel above the report, in which the user can act.
async function showPanel(selector, address) {
  const panel = document.querySelector(selector);
  if (!panel) return;
  const fields = [...panel.querySelectorAll("input, select")];
  if (fields.some((field) => field === document.activeElement || isChanged(field))) return; // the user is about to act
  const open = [...panel.querySelectorAll("details")].map((item) => item.open);
  const answer = await fetch(address, { headers: headers() }).catch(() => null);
  if (!answer?.ok) return;
  panel.innerHTML = await answer.text();
  panel.querySelectorAll("details").forEach((item, index) => { item.open = Boolean(open[index]); });
}

async function showRollout() {
  await showPanel("#rollout", "v1/rollout/panel");
  await showPanel("#retraining", "v1/retrain/panel");
  await showPanel("#people", "v1/automation/panel");
}

// Less automation for all tenants: the server states the effect, and the user must confirm it.
async function automate(form) {
  const scope = form.elements.scope.value.trim();
  const degree = form.elements.degree.value;
  const unreachable = { error: { message: "the server cannot be reached" } };
  const asked = await fetch(`v1/automation/effect?${new URLSearchParams({ scope, degree })}`, { headers: headers() }).catch(() => null);
  let said = (await asked?.json().catch(() => null)) ?? unreachable;
  let done = false;
  if (asked?.ok && said.confirm && !window.confirm(said.effect)) {
    said = { error: { message: "nothing was changed" } };
  } else if (asked?.ok) {
    const answer = await fetch(`v1/automation/${encodeURIComponent(scope)}`, {
      method: "PUT",
      headers: { ...headers(), "Content-Type": "application/json" },
      body: JSON.stringify({ degree, reason: form.elements.why.value.trim(), confirm: said.confirm }),
    }).catch(() => null);
    said = (await answer?.json().catch(() => null)) ?? unreachable;
    done = Boolean(answer?.ok);
  }
  const text = done ? `${said.scope}: ${said.degree.replace("_", " ")}` : said.error.message;
  status.textContent = text;
  if (done) form.reset();
  else form.querySelector("output").textContent = text;
  document.activeElement?.blur();
  await showRollout();
}

// The form offers the present degree of the scope.
document.querySelector("#people")?.addEventListener("input", (event) => {
  if (event.target.name !== "scope") return;
  const held = JSON.parse(event.target.form.dataset.held);
  const scope = event.target.value.trim();
  event.target.form.elements.degree.value = Object.hasOwn(held, scope) ? held[scope] : held.default;
});

document.querySelector("#people")?.addEventListener("submit", (event) => {
  event.preventDefault();
  automate(event.target);
});

async function act(name, to) {
  const panel = document.querySelector("#rollout");
  const field = panel.querySelector("[name=reason]");
  const reason = field.value.trim();
  if (name === "rollback" && !reason) {
    status.textContent = "a rollback needs a reason";
    field.focus();
    return;
  }
  const answer = await fetch(`v1/rollout/${name}`, {
    method: "POST",
    headers: { ...headers(), "Content-Type": "application/json" },
    body: JSON.stringify(to ? { reason, to } : { reason }),
  }).catch(() => null);
  const said = await answer?.json().catch(() => null);
  status.textContent = answer?.ok ? `${name}: done` : said?.error?.message ?? "the server cannot be reached";
  field.value = "";
  field.blur();
  await showRollout();
}

document.querySelector("#rollout")?.addEventListener("click", (event) => {
  const name = event.target.dataset?.act;
  if (!name) return;
  event.preventDefault();
  act(name, event.target.dataset.to);
});
document.querySelector("#rollout")?.addEventListener("submit", (event) => event.preventDefault());

function offer(bundles) {
  const select = form.elements.bundle;
  for (const name of bundles) {
    if (![...select.options].some((option) => option.value === name)) select.add(new Option(name, name));
  }
}

form.addEventListener("change", update);
form.addEventListener("submit", (event) => { event.preventDefault(); update(); });
body.addEventListener("click", async (event) => {
  const id = event.target.dataset?.acknowledge;
  if (!id) return;
  const answer = await fetch(`v1/alarms/${id}/acknowledge`, { method: "POST", headers: headers() });
  if (!answer.ok) status.textContent = "the alarm could not be acknowledged";
  await update();
});
update();
