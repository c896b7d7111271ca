// A live session over /v1/listen: sends audio, keeps what the server has not confirmed, resumes after a lost connection.
export class Connection {
  constructor({ query, key, onMessage, onState }) {
    this.query = query;
    this.key = key;
    this.onMessage = onMessage;
    this.onState = onState;
    this.kept = []; // [first byte, data] that may have to be sent again after resuming
    this.sent = 0;
    this.lastSeq = 0;
    this.token = null;
    this.resumed = 0;
    this.closing = false;
    this.open();
  }

  open() {
    const query = new URLSearchParams(this.query);
    query.set("resume", this.token ?? "true");
    if (this.token) query.set("last_seq", this.lastSeq);
    const url = new URL(`v1/listen?${query}`, document.baseURI); // relative to the path prefix of the page
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.ready = false;
    this.socket = this.key ? new WebSocket(url, ["token", this.key]) : new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => this.take(JSON.parse(event.data));
    this.socket.onclose = (event) => this.closed(event);
  }

  take(message) {
    if (message.type === "Session") {
      this.token = message.resume_token;
      if (message.resumed) this.resumed += 1;
      this.grace = message.grace_s;
      this.droppedAt = null;
      this.ready = true;
      this.onState("listening");
      for (const [first, data] of this.kept) {
        if (first + data.byteLength > message.received_bytes) this.socket.send(data.slice(Math.max(0, message.received_bytes - first)));
      }
      if (this.closing) this.socket.send('{"type":"CloseStream"}');
      return;
    }
    const ours = message.speechpipe ?? {};
    if (ours.seq) this.lastSeq = ours.seq;
    if (ours.received_bytes !== undefined) this.kept = this.kept.filter(([first, data]) => first + data.byteLength > ours.received_bytes);
    this.onMessage(message);
  }

  send(data) {
    this.kept.push([this.sent, data]);
    this.sent += data.byteLength;
    if (this.ready) this.socket.send(data);
  }

  finish() {
    this.closing = true;
    if (this.ready) this.socket.send('{"type":"CloseStream"}');
  }

  closed(event) {
    this.ready = false;
    if (event.code === 1000) return this.onState("done");
    this.droppedAt ??= Date.now();
    const dropped = [1006, 1001, 1005].includes(event.code);
    if (dropped && this.token && Date.now() - this.droppedAt < this.grace * 1000) {
      this.onState("reconnecting");
      setTimeout(() => this.open(), 500);
      return undefined;
    }
    return this.onState("error", `${event.reason || "connection lost"} (${event.code})`);
  }
}
