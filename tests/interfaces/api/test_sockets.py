"""Whatever breaks in a websocket's route, its client is told in its own protocol."""

import asyncio
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import WebSocket

from speechpipe.errors import InvalidParameter, SpeechpipeError
from speechpipe.interfaces.api.deepgram.events import error_message
from speechpipe.interfaces.api.sockets import MOST_REASON, close_reason, serve
from speechpipe.serving.live import Message
from speechpipe.serving.live.outbox import Goodbye, Outbox

pytestmark = pytest.mark.anyio


class FakeClient:
    """Of /v1/listen; raises where it is told to."""

    def __init__(self, failing: str = "", error: Exception | None = None) -> None:
        self.failing = failing
        self.error = error or ZeroDivisionError("unforeseen")
        self.commands: list[Any] = []
        self.stream: Any = SimpleNamespace(outbox=Outbox(), has_room=True, command=self.commands.append)
        self.resumed_after: int | None = None
        self.taken: list[Any] = []

    def _at(self, place: str) -> None:
        if self.failing == place:
            raise self.error

    def open(self, authorization: str | None) -> None:
        self._at("open")

    def headers(self) -> Mapping[str, str]:
        self._at("headers")
        return {}

    def greeting(self) -> Message | None:
        self._at("greeting")
        return {"type": "Session"}

    def parse(self, message: str | bytes) -> Any:
        self._at("parse")
        return message

    def before(self, parsed: Any) -> None:
        pass

    def obey(self, parsed: Any) -> None:
        self._at("obey")
        self.taken.append(parsed)
        self.stream.outbox.close(Goodbye(1000, "ok"))

    def say(self, error: SpeechpipeError) -> Message:
        return error_message(error)


async def served(client: FakeClient, *, origin: bool = False) -> tuple[list[Any], list[str]]:
    """Return what was sent, and the causes that were counted."""
    sent: list[Any] = []
    causes: list[str] = []
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    for message in ({"type": "websocket.connect"}, {"type": "websocket.receive", "bytes": b"\0\0"}):
        incoming.put_nowait(message)

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "websocket.close":
            incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

    scope = {
        "type": "websocket",
        "path": "/v1/listen",
        "query_string": b"",
        "headers": [(b"origin", b"http://here")] if origin else [],
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    streams: Any = SimpleNamespace(
        attach=lambda stream, ready, after: stream.outbox.attach(ready, after), leave=lambda _: None
    )
    settings = SimpleNamespace(live_send_timeout_s=5.0)
    service: Any = SimpleNamespace(settings=settings, refuse=lambda error: causes.append(error.cause))
    await asyncio.wait_for(serve(service, streams, WebSocket(scope, incoming.get, send), client, (None, None)), 60)
    return sent, causes


@pytest.mark.parametrize("place", ["greeting", "parse", "obey"])
async def test_after_the_upgrade_a_defect_is_an_error_message_and_1011(place: str) -> None:
    client = FakeClient(place)
    sent, causes = await served(client)
    assert sent[0]["type"] == "websocket.accept"
    texts = [json.loads(message["text"]) for message in sent if message["type"] == "websocket.send"]
    assert texts[-1]["variant"] == "internal_error"
    assert "unforeseen" not in json.dumps(texts), "what happened is in the log, not on the wire"
    assert sent[-1]["type"] == "websocket.close"
    assert sent[-1]["code"] == 1011
    assert causes == ["internal_error"]
    assert client.stream.outbox.detached_at is not None, "the stream is let go"


@pytest.mark.parametrize("place", ["open", "headers"])
@pytest.mark.parametrize("error", [ZeroDivisionError("x"), RuntimeError("x"), KeyError("x")], ids=repr)
async def test_before_the_upgrade_a_defect_is_http_500_in_the_shape_of_the_interface(
    place: str, error: Exception
) -> None:
    client = FakeClient(place, error)
    sent, causes = await served(client)
    assert sent[0]["type"] == "websocket.http.response.start"
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["err_code"] == "INTERNAL_ERROR"
    ended = [type(command).__name__ for command in client.commands]
    assert ended == ([] if place == "open" else ["Finish"]), "nobody had the token of the new stream"
    assert causes == ["internal_error"]


async def test_a_browser_is_told_by_a_message_and_a_close() -> None:
    sent, _ = await served(FakeClient("open", InvalidParameter("colour " + "é" * 200, param="colour")), origin=True)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert sent[2]["code"] == 1008
    assert len(sent[2]["reason"].encode()) <= MOST_REASON


async def test_when_nothing_breaks_the_goodbye_comes_last() -> None:
    client = FakeClient()
    sent, causes = await served(client)
    assert client.taken == [b"\0\0"]
    assert json.loads(sent[1]["text"]) == {"type": "Session"}
    assert (sent[-1]["code"], sent[-1]["reason"]) == (1000, "ok")
    assert not causes


def test_a_close_reason_fits_into_its_frame_whatever_it_is_made_of() -> None:
    for text in ("a" * 500, "é" * 500, "漢" * 500, "x" * 122 + "漢", "\ud800 lone"):
        assert len(close_reason(text).encode()) <= MOST_REASON
    assert close_reason("ok") == "ok"
