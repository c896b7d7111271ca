// Operations on the segments of a task: pure functions of a list, independent of the page.
const LEAST_S = 0.05;

export function fromTask(task) {
  if (task.work.length) {
    const pieces = new Map(task.segments.map((piece) => [piece.id, piece]));
    const answered = new Set(task.work.flatMap((said) => said.of));
    const kept = task.work.map((said) => ({
      start: said.start, end: said.end, text: said.text, kind: said.kind, of: said.of,
      words: said.of.flatMap((id) => pieces.get(id)?.words ?? []), needs: said.of.some((id) => pieces.get(id)?.needs),
    }));
    const rest = task.segments.filter((piece) => !answered.has(piece.id)).map(fromPiece);
    return sorted([...kept, ...rest]);
  }
  if (task.segments.length) return sorted(task.segments.map(fromPiece));
  return [{ start: 0, end: task.duration, text: "", kind: "speech", of: [], words: [], needs: true }];
}

function fromPiece(piece) {
  return { start: piece.start, end: piece.end, text: piece.text, kind: "speech", of: [piece.id], words: piece.words,
    needs: piece.needs, accepted: piece.accepted && !piece.needs };
}

function sorted(segments) {
  return [...segments].sort((a, b) => a.start - b.start || a.end - b.end);
}

// Splits the text of a segment: by the times of its words if they are known, else by proportion.
function cutText(segment, at) {
  const words = segment.text.split(/\s+/).filter(Boolean);
  const timed = segment.words.length === words.length && segment.words.every((word, index) => word.word === words[index]);
  const share = (at - segment.start) / (segment.end - segment.start);
  const left = timed ? segment.words.filter((word) => (word.start + word.end) / 2 < at).length : Math.round(words.length * share);
  return [words.slice(0, left).join(" "), words.slice(left).join(" ")];
}

export function split(segments, index, at) {
  const one = segments[index];
  if (!one || at <= one.start + LEAST_S || at >= one.end - LEAST_S) return segments;
  const [before, after] = cutText(one, at);
  const parts = [
    { ...one, end: at, text: before, words: one.words.filter((word) => (word.start + word.end) / 2 < at) },
    { ...one, start: at, text: after, words: one.words.filter((word) => (word.start + word.end) / 2 >= at) },
  ];
  return [...segments.slice(0, index), ...parts, ...segments.slice(index + 1)];
}

export function merge(segments, index) {
  const [one, two] = [segments[index], segments[index + 1]];
  if (!one || !two) return segments;
  const kind = one.text || two.text ? "speech" : one.kind;
  const whole = {
    start: Math.min(one.start, two.start), end: Math.max(one.end, two.end), kind,
    text: [one.text, two.text].filter(Boolean).join(" "), of: [...new Set([...one.of, ...two.of])],
    words: [...one.words, ...two.words], needs: one.needs || two.needs, accepted: one.accepted && two.accepted,
  };
  return [...segments.slice(0, index), whole, ...segments.slice(index + 2)];
}

export function add(segments, at, duration) {
  const next = segments.find((segment) => segment.start > at);
  const inside = segments.find((segment) => segment.start <= at && segment.end > at);
  const start = inside ? inside.end : at;
  const end = Math.min(next && next.start > start ? next.start : duration, start + 2, duration);
  if (end - start < LEAST_S) return segments;
  return sorted([...segments, { start, end, text: "", kind: "speech", of: [], words: [], needs: true }]);
}

export function moveEdge(segments, index, edge, at) {
  const one = segments[index];
  const moved = { ...one, [edge]: at };
  if (!one || moved.end - moved.start < LEAST_S) return segments;
  return sorted(segments.map((segment, number) => (number === index ? moved : segment)));
}

// An added segment without text is left out; an accepted one that was not changed needs no answer.
export function answer(segments) {
  return segments
    .filter((segment) => !segment.accepted && (segment.of.length || segment.text.trim() || segment.kind === "unintelligible"))
    .map((segment) => ({
      start: segment.start, end: segment.end, text: segment.kind === "speech" ? segment.text : "", kind: segment.kind, of: segment.of,
    }));
}

export function unanswered(segments) {
  return segments.findIndex((segment) => !segment.accepted && segment.of.length && segment.kind === "speech" && !segment.text.trim());
}
