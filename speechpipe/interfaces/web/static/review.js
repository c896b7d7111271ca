// The review page: one task at a time, from claim to answer. The draft of the answer is saved on the server while typing.
import * as edit from "./segments.js";
import { Waveform } from "./waveform.js";

const SAVE_MS = 1500, RENEW_MS = 20000, IDLE_MS = 60000;
const $ = (id) => document.getElementById(id);
const audio = $("audio"), wave = new Waveform($("wave"));
let task = null, segments = [], current = 0, saving = 0, stopAt = null, jumped = -1;
let lastAct = 0, counted = 0, unsent = 0; // working time in ms: only while the reviewer is active

// ---- the server ----

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").toggleAttribute("data-bad", bad);
}

function headers(more = {}) {
  const key = $("key").value;
  return { ...more, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function ask(path, body) {
  const options = body === undefined ? { headers: headers() }
    : { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(`v1/reviews${path}`, options);
  } catch {
    throw new Error("the server cannot be reached; your text is still here");
  }
  if (answer.status === 204) return null;
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(found.error?.message ?? `the server answers ${answer.status}`), { code: found.error?.code });
  return found;
}

async function guarded(work) {
  try {
    return await work();
  } catch (error) {
    say(error.message, true);
    if (["lease_lost", "review_over"].includes(error.code)) { forget(); $("submit").disabled = true; }
    return undefined;
  }
}

async function progress() {
  const found = await ask("").catch(() => null);
  if (!found) return 0;
  const sum = (state) => Object.values(found.counts[state] ?? {}).reduce((a, b) => a + b, 0);
  $("progress").textContent = `${sum("done")} done, ${sum("leased")} in work, ${sum("open")} waiting`;
  return found.waiting.filter((row) => row.state === "open" && !row.audio_here).length;
}

// ---- time ----

function act() {
  const now = Date.now();
  if (lastAct && now - lastAct < IDLE_MS) { counted += now - lastAct; unsent += now - lastAct; }
  lastAct = now;
  if (task) $("time").textContent = `${(counted / 1000).toFixed(0)} s for ${task.duration.toFixed(1)} s of audio`;
}

function step() {
  const found = unsent / 1000;
  unsent = 0;
  return Math.min(found, 3600);
}

// ---- a task ----

function remember() { sessionStorage.setItem("review", JSON.stringify({ id: task.id, lease: task.lease })); }
function forget() { sessionStorage.removeItem("review"); }

async function take() {
  const found = await ask("/claim", { reviewer: $("name").value });
  const elsewhere = await progress();
  if (found) return open(found);
  close();
  say(elsewhere ? `there is nothing to review on this server; the audio of ${elsewhere} tasks is on another server` : "there is nothing to review");
}

async function open(found) {
  task = found;
  remember();
  segments = edit.fromTask(task);
  current = Math.max(0, segments.findIndex((segment) => segment.needs));
  [lastAct, counted, unsent, jumped, stopAt] = [Date.now(), task.work_s * 1000, 0, -1, null];
  const answer = await fetch(`v1/reviews/${task.id}/audio`, { headers: headers() });
  if (!answer.ok) {
    const { error } = await answer.json().catch(() => ({}));
    throw new Error(error?.message ?? "the audio cannot be loaded");
  }
  const bytes = await answer.arrayBuffer();
  if (audio.src) URL.revokeObjectURL(audio.src);
  audio.src = URL.createObjectURL(new Blob([bytes], { type: "audio/flac" }));
  const decoded = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes);
  wave.load(decoded.getChannelData(0), task.duration);
  const why = task.waited_for ? { degree: "a client waits for this text", unsure: "a client waits: the machine's confidence is low" } : { degree: "live session; the machine's text was a draft", unsure: "live session; the machine's confidence is low", disagreement: "two bundles returned different texts", doubtful: "low confidence", audit: "sampled at random" };
  $("about").textContent = `${why[task.why] ?? task.why}${task.blind ? "; the machine's text is not shown" : ""} · ${task.duration.toFixed(1)} s`;
  $("task").hidden = false;
  $("nothing").hidden = true;
  $("submit").disabled = false;
  say("");
  show();
  focus();
  $("task").dataset.id = task.id;
}

function close() {
  task = null;
  forget();
  audio.pause();
  $("task").hidden = true;
  $("nothing").hidden = false;
  delete $("task").dataset.id;
}

async function save() {
  clearTimeout(saving);
  saving = setTimeout(() => guarded(save), RENEW_MS);
  if (!task) return;
  await ask(`/${task.id}/renew`, { lease: task.lease, segments: edit.answer(segments), step_s: step() });
}

function changed() {
  act();
  clearTimeout(saving);
  saving = setTimeout(() => guarded(save), SAVE_MS);
}

async function submit() {
  if (!task) return;
  act();
  const open = edit.unanswered(segments);
  if (open >= 0) {
    current = open;
    show();
    focus();
    return say(`segment ${open + 1} has no text: type it, or choose no speech or unintelligible`, true);
  }
  clearTimeout(saving);
  await ask(`/${task.id}/submit`, { lease: task.lease, segments: edit.answer(segments), step_s: step() });
  close();
  await take();
}

// ---- showing ----

function show() {
  const list = $("segments");
  list.replaceChildren(...segments.map((segment, index) => {
    const row = document.createElement("li");
    row.className = segment.accepted ? "accepted" : "";
    if (index === current) row.setAttribute("aria-current", "true");
    row.innerHTML = `<div class="row"><b></b><span class="muted small"></span><label>kind <select>
      <option value="speech">speech</option><option value="no_speech">no speech</option><option value="unintelligible">unintelligible</option>
      </select></label></div><textarea spellcheck="false" rows="1"></textarea>`;
    row.querySelector("b").textContent = `${index + 1}`;
    row.querySelector("span").textContent = `${segment.start.toFixed(2)} – ${segment.end.toFixed(2)} s${segment.accepted ? " · delivered already" : ""}`;
    const kind = row.querySelector("select"), text = row.querySelector("textarea");
    kind.value = segment.kind;
    text.value = segment.text;
    text.disabled = segment.kind !== "speech";
    text.setAttribute("aria-label", `Text of segment ${index + 1}`);
    kind.addEventListener("change", () => { select(index, false); mark(kind.value); });
    text.addEventListener("focus", () => select(index, false));
    text.addEventListener("input", () => { segment.text = text.value; segment.accepted = false; changed(); });
    if (segment.words.length) row.append(machine(segment, index));
    return row;
  }));
  draw();
}

function machine(segment, index) {
  const line = document.createElement("p");
  line.className = "machine small";
  line.append("machine: ", ...segment.words.map((word) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = word.word;
    if (word.doubtful) button.className = "doubtful";
    if (word.confidence !== null) button.title = `confidence ${word.confidence.toFixed(2)}`;
    button.addEventListener("click", () => { select(index, true); goto(word, segment.words); });
    return button;
  }));
  return line;
}

function draw() {
  wave.draw(segments, current, audio.currentTime);
  $("clock").textContent = `${audio.currentTime.toFixed(1)} / ${(task?.duration ?? 0).toFixed(1)} s`;
}

function field() { return $("segments").querySelectorAll("textarea")[current]; }
function focus() { field()?.focus(); }

function select(index, moveFocus) {
  current = index;
  [...$("segments").children].forEach((row, number) => row.toggleAttribute("aria-current", number === current));
  act();
  draw();
  if (moveFocus) focus();
}

function change(fresh, index = current) {
  if (fresh === segments) return say("this is not possible here", true);
  segments = fresh;
  current = Math.min(index, segments.length - 1);
  say("");
  show();
  focus();
  changed();
}

function mark(kind) {
  const one = segments[current];
  segments[current] = { ...one, kind, text: kind === "speech" ? one.text : "", accepted: false };
  change([...segments]);
}

// ---- audio ----

function play(from, until = null) {
  if (from !== undefined) audio.currentTime = from;
  stopAt = until;
  audio.play().catch(() => say("the browser refuses to play the audio", true));
}

function toggle() { if (audio.paused) play(); else audio.pause(); }
function replay() { const one = segments[current]; if (one) play(one.start, one.end); }

// A word may occur several times: its rank among the machine's words gives its position in the text.
function goto(word, words) {
  play(Math.max(0, word.start - 0.3), word.end + 0.3);
  const text = field(), before = words.slice(0, words.indexOf(word)).filter((other) => other.word === word.word).length;
  const found = [...text.value.matchAll(/\S+/g)].filter((token) => token[0] === word.word);
  const at = (found[before] ?? found[0])?.index;
  text.focus();
  if (at !== undefined) text.setSelectionRange(at, at + word.word.length);
}

function nextDoubtful() {
  const all = segments.flatMap((segment, index) => segment.words.filter((word) => word.doubtful).map((word) => ({ word, index })));
  if (!all.length) return say("there are no doubtful words");
  jumped = (jumped + 1) % all.length;
  select(all[jumped].index, true);
  goto(all[jumped].word, segments[all[jumped].index].words);
  say(`doubtful word ${jumped + 1} of ${all.length}: ${all[jumped].word.word}`);
}

function faster(by) {
  const speed = $("speed");
  speed.selectedIndex = Math.max(0, Math.min(speed.options.length - 1, speed.selectedIndex + by));
  audio.playbackRate = Number(speed.value);
}

function tick() {
  const one = segments[current];
  if (stopAt !== null && audio.currentTime >= stopAt) {
    if ($("loop").checked && one) audio.currentTime = one.start; else { audio.pause(); stopAt = null; }
  } else if ($("loop").checked && one && !audio.paused && audio.currentTime >= one.end) audio.currentTime = one.start;
  draw();
  if (!audio.paused) { act(); requestAnimationFrame(tick); }
}

// ---- buttons and keys ----

const acts = {
  play: toggle, replay, doubtful: nextDoubtful,
  split: () => change(edit.split(segments, current, audio.currentTime), current),
  merge: () => change(edit.merge(segments, current)),
  start: () => change(edit.moveEdge(segments, current, "start", audio.currentTime)),
  end: () => change(edit.moveEdge(segments, current, "end", audio.currentTime)),
  add: () => change(edit.add(segments, audio.currentTime, task.duration)),
  submit: () => guarded(submit),
  skip: () => guarded(async () => {
    await ask(`/${task.id}/skip`, { lease: task.lease, reason: $("reason").value, step_s: step() });
    close();
    await take();
  }),
  release: () => guarded(async () => {
    await save();
    await ask(`/${task.id}/release`, { lease: task.lease });
    close();
    await progress();
  }),
};
for (const [id, work] of Object.entries(acts)) $(id).addEventListener("click", () => task && work());

const keys = {
  KeyP: toggle, KeyR: replay, KeyL: () => $("loop").click(), KeyD: nextDoubtful, KeyS: acts.split, KeyM: acts.merge, KeyA: acts.add,
  BracketLeft: acts.start, BracketRight: acts.end, KeyN: () => mark("no_speech"), KeyU: () => mark("unintelligible"),
  ArrowUp: () => current > 0 && select(current - 1, true), ArrowDown: () => current < segments.length - 1 && select(current + 1, true),
  ArrowLeft: () => { audio.currentTime = Math.max(0, audio.currentTime - 1); draw(); }, ArrowRight: () => { audio.currentTime += 1; draw(); },
  Comma: () => faster(-1), Period: () => faster(1),
};
document.addEventListener("keydown", (event) => {
  if (!task) return;
  act();
  const typing = ["TEXTAREA", "INPUT", "SELECT", "BUTTON"].includes(event.target.tagName);
  const work = event.altKey && !event.ctrlKey ? keys[event.code]
    : event.ctrlKey && event.code === "Enter" ? acts.submit : event.code === "Space" && !typing ? toggle : null;
  if (work) { event.preventDefault(); work(); }
});

$("speed").addEventListener("change", () => { audio.playbackRate = Number($("speed").value); });
$("wave").addEventListener("click", (event) => {
  if (!task) return;
  audio.currentTime = wave.at(event);
  const inside = segments.findIndex((segment) => segment.start <= audio.currentTime && segment.end >= audio.currentTime);
  if (inside >= 0) select(inside, false);
  draw();
});
audio.addEventListener("play", () => { $("play").textContent = "Pause"; audio.playbackRate = Number($("speed").value); tick(); });
audio.addEventListener("pause", () => { $("play").textContent = "Play"; draw(); });
audio.addEventListener("seeked", draw);
$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  localStorage.setItem("reviewer", $("name").value);
  if (task) return focus(); // one task at a time
  guarded(take);
});

$("name").value = localStorage.getItem("reviewer") ?? "";
progress();
const held = JSON.parse(sessionStorage.getItem("review") ?? "null");
if (held) {
  ask(`/${held.id}?lease=${encodeURIComponent(held.lease)}`).then(open).catch(() => forget());
}
