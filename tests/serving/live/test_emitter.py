"""What a channel says of an open segment: the whole text when it is new, stable text once and for good."""

from types import SimpleNamespace
from typing import Any

from speechpipe.cascade.vad import Opened
from speechpipe.cascade.workers import Hypothesis
from speechpipe.serving.live import Event, Partial, StableText
from speechpipe.serving.live.emitter import ChannelEmitter
from speechpipe.types import Segment


class Channel:
    """An emitter with an open segment whose partial results are set here."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.pending = SimpleNamespace(index=0, start=0, hypothesis=None)
        session: Any = SimpleNamespace(pending=[self.pending], is_open=True, position=32_000)
        self.emitter = ChannelEmitter(0, self.events.append, lambda: None, lambda _: session, manual=False)
        self.emitter.on_opened(0, Opened(0, 0, 0))
        self.events.clear()

    def hear(self, text: str, stable: str = "") -> list[tuple[str, str]]:
        """Set a partial result; return what is emitted: (kind, text)."""
        self.pending.hypothesis = Hypothesis(text, 16_000, len(stable))
        assert text.startswith(stable)
        self.events.clear()
        sent = self.emitter.partial()
        found = []
        for event in self.events:
            assert isinstance(event, Partial | StableText)
            found.append(("text", event.text) if isinstance(event, Partial) else ("stable", event.added))
        assert sent is any(kind == "text" for kind, _ in found)
        return found


def test_a_partial_result_is_emitted_when_its_text_is_new() -> None:
    channel = Channel()
    assert channel.hear("I want") == [("text", "I want")]
    assert channel.hear("I want") == []
    assert channel.hear("") == []
    assert channel.hear("I want for") == [("text", "I want for")]
    assert isinstance(channel.events[0], Partial)
    assert channel.events[0].lag_s == 1.0


def test_stable_text_is_emitted_once() -> None:
    channel = Channel()
    assert channel.hear("I want", "I") == [("stable", "I"), ("text", "I want")]
    assert channel.hear("I want", "I want") == [("stable", " want")]
    assert channel.hear("I want four", "I want") == [("text", "I want four")]
    assert isinstance(channel.events[0], Partial)
    assert channel.events[0].stable == len("I want")


def test_stable_text_stays_when_the_segment_begins_again_on_another_worker() -> None:
    channel = Channel()
    channel.hear("I want four", "I want")
    assert channel.hear("I need") == [("text", "I want")]
    assert channel.hear("I need four", "I need") == [("text", "I want four")]
    assert channel.hear("I want four men", "I want four") == [("stable", " four"), ("text", "I want four men")]


def test_the_last_partial_result_of_a_closed_segment_can_be_asked_for_once() -> None:
    channel = Channel()
    channel.hear("I want four", "I want")
    channel.emitter.on_closed(0, Segment(0, 16_000, 0, 16_000, 0.9), 16_000)
    assert channel.emitter.last_partial(0) == ("I want four", "I want")
    assert channel.emitter.last_partial(0) == ("", "")
    channel.emitter.on_opened(1, Opened(16_000, 16_000, 16_000))
    assert channel.hear("Yes") == [("text", "Yes")]
