"""Captions: utterances split into readable cues, as SubRip and WebVTT."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from speechpipe.types import Utterance, Word

MAX_CHARACTERS = 84  # two lines of 42, as is usual in broadcasting
MAX_S = 7.0
GAP_S = 1.5  # a pause that starts a new cue


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and the time during which it is shown, in seconds."""

    start_s: float
    end_s: float
    text: str


def cues(utterances: Iterable[Utterance]) -> Iterator[Cue]:
    """Yield cues in order; an utterance without word times is one cue."""
    for utterance in utterances:
        transcript = utterance.transcript
        if not transcript.text:
            continue
        if not transcript.words:
            yield Cue(utterance.start_s, utterance.end_s, transcript.text)
            continue
        line: list[Word] = []
        for word in transcript.words:
            if line and _full(line, word):
                yield _cue(line)
                line = []
            line.append(word)
        yield _cue(line)


def _full(line: list[Word], word: Word) -> bool:
    characters = sum(len(held.text) + 1 for held in line) + len(word.text)
    too_long = characters > MAX_CHARACTERS or word.end_s - line[0].start_s > MAX_S
    return too_long or word.start_s - line[-1].end_s > GAP_S


def _cue(line: list[Word]) -> Cue:
    return Cue(line[0].start_s, line[-1].end_s, " ".join(word.text for word in line))


def srt(items: Iterable[Cue]) -> str:
    """Return SubRip: `1`, `HH:MM:SS,mmm --> HH:MM:SS,mmm`, text, empty line."""
    return "".join(
        f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{cue.text}\n\n"
        for number, cue in enumerate(items, 1)
    )


def vtt(items: Iterable[Cue]) -> str:
    """Return WebVTT (W3C): a header, then cues with a dot before the milliseconds."""
    body = "".join(f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{cue.text}\n\n" for cue in items)
    return "WEBVTT\n\n" + body


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
