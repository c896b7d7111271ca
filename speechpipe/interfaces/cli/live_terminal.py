"""A live stream on a terminal: partial text is rewritten in place, finals are lines. In a pipe: finals only."""

import contextlib
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from speechpipe.app import compose
from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.config import Settings
from speechpipe.errors import SpeechpipeError
from speechpipe.serving.live import Ended, Event, Final, Finish, LiveRequest, Message, Partial
from speechpipe.serving.live.manager import StreamManager
from speechpipe.serving.live.stream import LiveStream
from speechpipe.serving.text import TextOptions
from speechpipe.serving.text.formatter import TextFormatter
from speechpipe.types import Scalar

CLEAR_LINE = "\r\x1b[K"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options of the command say about the transcript.

    `changes`: parameters of the bundle. `partials`: text is shown before it is final.
    """

    bundle: str
    changes: Mapping[str, Scalar]
    language: str | None
    prompt: str | None
    hotwords: tuple[str, ...]
    text: TextOptions
    partials: bool


class Terminal:
    """A `Dialect` that prints events on the terminal and sends no messages.

    Attributes:
        ended: set after the last event.
        error: why the session failed, if it did.
    """

    def __init__(self, formatter: TextFormatter, *, partials: bool) -> None:
        """Write texts by `formatter`. `partials`: show text before it is final, if this is a terminal."""
        self._formatter = formatter
        self._partials = partials and sys.stdout.isatty()
        self.ended = threading.Event()
        self.error: SpeechpipeError | None = None

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._partials:
            sys.stdout.write(CLEAR_LINE)
            sys.stdout.flush()

    def render(self, event: Event) -> list[Message]:
        """Print an event."""
        match event:
            case Partial() if self._partials:
                width = shutil.get_terminal_size().columns - 1
                text, _ = self._formatter.partial(event.text, event.stable)
                self._write(CLEAR_LINE + text[-width:])
            case Final():
                transcript = self._formatter.utterance(event.utterance).transcript
                begin = CLEAR_LINE if self._partials else ""
                if transcript.text:
                    self._write(f"{begin}{transcript.text}\n")
                elif transcript.null_cause not in (None, "empty"):
                    self._write(begin)
                    sys.stderr.write(f"speechpipe: a segment has no text: {transcript.null_cause}\n")
            case Ended():
                self.error = event.error
                for notice in (*event.notices, *self._formatter.notices):
                    sys.stderr.write(f"speechpipe: {notice.message}\n")
                self.ended.set()
        return []

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def run(config: Settings, wire: WireFormat, blocks: Iterator[bytes], asked: Asked) -> bool:
    """Run one live session in this process; return whether it failed."""
    service = compose(config.model_copy(update=PLAIN), live=True)
    chosen = service.engine.bundle(asked.bundle, asked.changes)
    request = LiveRequest(
        bundle=chosen,
        wire=wire,
        channel="cli",
        language=asked.language,
        prompt=asked.prompt,
        hotwords=asked.hotwords,
        terms=service.terms("", chosen),
    )
    streams = StreamManager(service)
    with Terminal(service.formatter(asked.text, request), partials=asked.partials) as terminal, service:
        streams.start()
        try:
            stream = streams.open(request, terminal)
            streams.attach(stream, lambda: None)
            with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends the recording, not the transcript
                _send(stream, blocks, terminal.ended)
            stream.command(Finish())
            terminal.ended.wait()
        finally:
            streams.close()
    if terminal.error is not None:
        sys.stderr.write(f"speechpipe: {terminal.error.message}\n")
    return terminal.error is not None


def _send(stream: LiveStream, blocks: Iterator[bytes], ended: threading.Event) -> None:
    """Give the blocks to a stream as it has room for them, until they or the stream end."""
    for block in blocks:
        stream.offer(block)
        while not stream.has_room and not ended.is_set():
            room = threading.Event()
            stream.when_room(room.set)
            room.wait(1.0)
        if ended.is_set():
            break


PLAIN: dict[str, Any] = {"workers": 1, "live_workers": 1}
"""Worker processes for one session."""
