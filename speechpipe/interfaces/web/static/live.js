// The live page: microphone -> worklet -> server; shows text, levels and figures as they arrive.
import { Connection } from "./connection.js";

const $ = (id) => document.getElementById(id);
const STATES = { idle: "Ready", asking: "Asking for the microphone", listening: "Listening", reconnecting: "Connection lost, resuming", finishing: "Finishing", done: "Done" };
let session = null;

function state(name, text) {
  $("state").dataset.state = name;
  $("state").textContent = text ?? STATES[name];
  const busy = ["asking", "listening", "reconnecting", "finishing"].includes(name);
  $("toggle").textContent = busy ? "Stop" : "Start listening";
  $("toggle").disabled = name === "finishing";
  if (["done", "error"].includes(name)) silence();
}

function silence() {
  $("vad").dataset.speech = "no";
  $("vad").textContent = "silence";
  $("partial").textContent = "";
  session?.stop();
  session = null;
}

class Figures {
  constructor() {
    this.values = {};
    this.nulls = 0;
    for (const cell of document.querySelectorAll("td[id$='-last'], td[id$='-all']")) cell.textContent = "-";
    $("null-all").textContent = "0";
  }

  add(name, value, digits) {
    if (typeof value !== "number") return;
    const all = (this.values[name] ??= []);
    all.push(value);
    const sorted = [...all].sort((a, b) => a - b);
    $(`${name}-last`).textContent = value.toFixed(digits);
    $(`${name}-all`).textContent = `median ${sorted[Math.floor(sorted.length / 2)].toFixed(digits)}, ${all.length} in total`;
  }

  final(message) {
    const ours = message.speechpipe;
    const best = message.channel.alternatives[0];
    if (ours.id === undefined) return;
    this.add("input", ours.input.level_dbfs, 1);
    this.add("vad", ours.vad.segment_s, 2);
    this.add("asr", best.confidence, 2);
    this.add("final", ours.endpoint_to_final_s * 1000, 0);
    this.nulls += ours.null_cause ? 1 : 0;
    $("null-last").textContent = ours.null_cause ?? "-";
    $("null-all").textContent = this.nulls;
  }
}

class Session {
  constructor() {
    this.figures = new Figures();
    $("finals").replaceChildren();
  }

  async start() {
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    this.media = await navigator.mediaDevices.getUserMedia({ audio });
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("live/capture.js");
    const query = { model: $("model").value, encoding: "linear16", sample_rate: this.context.sampleRate, interim_results: true, vad_events: true };
    if ($("endpointing").value) query.endpointing = $("endpointing").value;
    this.connection = new Connection({ query, key: $("key").value, onMessage: (message) => this.take(message), onState: state });
    const capture = new AudioWorkletNode(this.context, "capture", { numberOfOutputs: 0 });
    capture.port.onmessage = ({ data }) => this.heard(data);
    this.context.createMediaStreamSource(this.media).connect(capture);
  }

  heard({ pcm, level }) {
    $("level").value = level;
    $("dbfs").textContent = `${level.toFixed(0)} dBFS`;
    if (!this.connection.closing) this.connection.send(pcm);
  }

  take(message) {
    $("resumed").textContent = this.connection.resumed;
    if (message.type === "SpeechStarted") this.speech(true);
    if (message.type === "Error") state("error", message.description);
    if (message.type !== "Results") return;
    const text = message.channel.alternatives[0].transcript;
    if (!message.is_final) {
      $("partial").textContent = text;
      this.figures.add("lag", message.speechpipe.lag_s * 1000, 0);
      return;
    }
    $("partial").textContent = "";
    if (message.speechpipe.id !== undefined) this.speech(false);
    this.figures.final(message);
    if (text || message.speechpipe.null_cause) {
      const line = document.createElement("li");
      line.textContent = text || `no text: ${message.speechpipe.null_cause}`;
      line.className = text ? "" : "none";
      $("finals").append(line);
    }
  }

  speech(yes) {
    $("vad").dataset.speech = yes ? "yes" : "no";
    $("vad").textContent = yes ? "speech" : "silence";
  }

  finish() {
    state("finishing");
    this.connection.finish();
  }

  stop() {
    this.media?.getTracks().forEach((track) => track.stop());
    this.context?.close();
  }
}

$("controls").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (session) return session.finish();
  state("asking");
  session = new Session();
  try {
    await session.start();
  } catch (error) {
    state("error", `The microphone cannot be used: ${error.message}`);
  }
  return undefined;
});

async function bundles() {
  const answer = await fetch("v1/models");
  if (!answer.ok) return;
  const { data } = await answer.json();
  $("model").replaceChildren(...data.map(({ id }) => new Option(id)));
}

bundles();
