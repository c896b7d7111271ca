"""`/v1/realtime` driven by the official `openai` client."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import soxr
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from speechpipe.types import Samples
from tests.conftest import Server
from tests.live_client import pcm, spoken, whole
from tests.patience import PATIENCE_S
from tests.sounds import encoded_by_ffmpeg

pytestmark = pytest.mark.anyio
CLIPS = ("sentence_slt", "digits")
COMPLETED = "conversation.item.input_audio_transcription.completed"


def pcm24(samples: Samples) -> bytes:
    return pcm(soxr.resample(samples, 16_000, 24_000))


@asynccontextmanager
async def connected(server: Server, **audio: Any) -> AsyncIterator[Any]:
    client = AsyncOpenAI(api_key="none", base_url=f"{server.url}/v1")
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        created = await connection.recv()
        assert created.type == "session.created"
        if audio:
            await update(connection, **audio)
            assert (await connection.recv()).type == "session.updated"
        yield connection
    await client.close()


async def update(connection: Any, **audio: Any) -> None:
    await connection.session.update(session={"type": "transcription", "audio": {"input": audio}})


async def append(connection: Any, data: bytes, step: int = 9600) -> None:
    for start in range(0, len(data), step):
        await connection.input_audio_buffer.append(audio=base64.b64encode(data[start : start + step]).decode())


async def until(connection: Any, kind: str) -> list[Any]:
    events: list[Any] = []
    async with asyncio.timeout(PATIENCE_S):
        while not events or events[-1].type != kind:
            events.append(await connection.recv())
    return events


async def test_speech_becomes_items_in_the_order_that_clients_expect(server: Server) -> None:
    async with connected(server) as connection:
        await append(connection, pcm24(spoken(CLIPS[0])))
        events = [event for event in await until(connection, COMPLETED) if event.type != "speechpipe.partial"]
    assert [event.type.removeprefix("conversation.item.").removeprefix("input_audio_") for event in events] == [
        "buffer.speech_started",
        "buffer.speech_stopped",
        "buffer.committed",
        "added",
        "done",
        "transcription.delta",
        "transcription.completed",
    ]
    started, stopped, committed, added, _, delta, completed = events
    assert len({event.item_id for event in (started, stopped, committed, delta, completed)} | {added.item.id}) == 1
    assert 0 <= started.audio_start_ms < stopped.audio_end_ms
    assert completed.transcript == delta.delta != ""
    assert completed.usage.type == "duration"
    assert completed.usage.seconds > 0


async def test_manual_commits_cut_where_the_client_says(server: Server) -> None:
    async with connected(server, turn_detection=None) as connection:
        await connection.input_audio_buffer.commit()
        assert (await until(connection, "error"))[-1].error.code == "input_audio_buffer_commit_empty"
        await append(connection, pcm24(spoken(CLIPS[0])))
        await connection.input_audio_buffer.commit()
        events = await until(connection, COMPLETED)
        assert not [event for event in events if "speech_st" in event.type]
        first = events[-1]
        await append(connection, pcm24(spoken(CLIPS[1])))
        await connection.input_audio_buffer.commit()
        second = (await until(connection, COMPLETED))[-1]
        await append(connection, pcm24(spoken(CLIPS[1]))[:20_000])
        await connection.input_audio_buffer.clear()
        await until(connection, "input_audio_buffer.cleared")
    assert first.transcript
    assert second.transcript
    assert first.item_id != second.item_id


async def test_a_commit_takes_its_turn_after_the_audio_of_a_container(server: Server) -> None:
    first = encoded_by_ffmpeg(spoken(CLIPS[0]), "webm", "libopus")
    short = encoded_by_ffmpeg(spoken(CLIPS[1])[:8000], "webm", "libopus")
    assert len(short) < 4800, "fewer bytes than 100 ms of PCM have"
    async with connected(server, turn_detection=None) as connection:
        for data, seconds in ((first, len(spoken(CLIPS[0])) / 16_000), (short, 0.5)):
            await append(connection, data)
            await connection.input_audio_buffer.commit()
            events = await until(connection, COMPLETED)
            assert not [event for event in events if event.type == "error"]
            assert events[-1].usage.seconds == pytest.approx(seconds, abs=0.1)
        await connection.input_audio_buffer.commit()
        assert (await until(connection, "error"))[-1].error.code == "input_audio_buffer_commit_empty"


async def test_clear_and_turn_detection_take_their_turn_after_the_audio_of_a_container(server: Server) -> None:
    first, second = (encoded_by_ffmpeg(spoken(clip), "webm", "libopus") for clip in CLIPS)
    async with connected(server, turn_detection=None) as connection:
        await append(connection, first)
        await connection.input_audio_buffer.clear()
        await append(connection, second)
        await update(connection, turn_detection={"type": "server_vad"})
        await connection.input_audio_buffer.commit()
        events = await until(connection, COMPLETED)
    assert "input_audio_buffer.cleared" in [event.type for event in events]
    assert not [event for event in events if "speech_st" in event.type], "all of it was before the change"
    assert events[-1].usage.seconds == pytest.approx(len(spoken(CLIPS[1])) / 16_000, abs=0.1), "without the first"


async def test_a_commit_of_silence_is_an_item_without_text(server: Server) -> None:
    async with connected(server) as connection:
        await append(connection, bytes(96_000))
        await connection.input_audio_buffer.commit()
        events = await until(connection, COMPLETED)
        (committed,) = [event for event in events if event.type == "input_audio_buffer.committed"]
        assert events[-1].item_id == committed.item_id
        assert events[-1].transcript == ""
        assert events[-1].usage.seconds == pytest.approx(2.0, abs=0.1)
        await connection.input_audio_buffer.commit()
        assert (await until(connection, "error"))[-1].error.code == "input_audio_buffer_commit_empty"
        await append(connection, bytes(96_000))
        await connection.input_audio_buffer.clear()
        await connection.input_audio_buffer.commit()
        assert (await until(connection, "error"))[-1].error.code == "input_audio_buffer_commit_empty"


async def test_telephone_formats_and_parameters(server: Server) -> None:
    detection = {"type": "server_vad", "threshold": 0.6, "prefix_padding_ms": 200, "silence_duration_ms": 300}
    audio = {"format": {"type": "audio/pcmu"}, "turn_detection": detection}
    async with connected(server, **audio) as connection:
        await append(connection, encoded_by_ffmpeg(spoken(CLIPS[0]), "mulaw", "pcm_mulaw", 8000), 800)
        assert (await until(connection, COMPLETED))[-1].transcript


async def test_who_stops_to_commit_by_hand_in_mid_speech_gets_what_was_said(server: Server) -> None:
    data = pcm24(spoken(CLIPS[0], gap_s=1.5))
    async with connected(server, turn_detection=None) as connection:
        await append(connection, data[:60_000])
        await update(connection, turn_detection={"type": "server_vad"})
        first = (await until(connection, COMPLETED))[-1]
        await append(connection, data[60_000:])
        events = await until(connection, COMPLETED)
    assert first.transcript
    assert "input_audio_buffer.speech_started" in [event.type for event in events], "from here on the VAD says it"
    assert events[-1].transcript
    assert events[-1].item_id != first.item_id


async def test_turn_detection_may_change_in_mid_speech_and_format_may_not(server: Server) -> None:
    data = pcm24(spoken(CLIPS[0], gap_s=1.5))
    async with connected(server) as connection:
        await append(connection, data[:60_000])
        await update(connection, turn_detection={"type": "server_vad", "silence_duration_ms": 900})
        await update(connection, format={"type": "audio/pcmu"})
        await append(connection, data[60_000:])
        events = await until(connection, COMPLETED)
    kinds = [event.type for event in events]
    assert "session.updated" in kinds
    (error,) = [event.error for event in events if event.type == "error"]
    assert error.code == "session_in_use"
    assert events[-1].transcript


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ("nonsense", "invalid_json", None),
        ("[1]", "invalid_json", None),
        ('{"type": "dance"}', "unknown_message", "type"),
        ('{"type": "input_audio_buffer.append"}', "invalid_parameter", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "&&&"}', "invalid_parameter", "audio"),
        ('{"type": "session.update", "session": 5}', "invalid_parameter", "session"),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"colour": 1}}}}',
            "unknown_parameter",
            "session.audio.input.colour",
        ),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"turn_detection": {"type": "server_vad",'
            ' "threshold": 9}}}}}',
            "invalid_parameter",
            "vad.threshold",
        ),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"transcription": {"model": "gpt-9"}}}}}',
            "model_not_found",
            "model",
        ),
    ],
)
async def test_what_is_wrong_is_answered_and_the_session_goes_on(
    server: Server, event: str, code: str, param: str | None
) -> None:
    url = server.url.replace("http", "ws") + "/v1/realtime?intent=transcription"
    async with connect(url) as socket:
        assert json.loads(await socket.recv())["type"] == "session.created"
        await socket.send(event)
        error = json.loads(await socket.recv())
        assert (error["type"], error["error"]["code"], error["error"]["param"]) == ("error", code, param)
        audio = base64.b64encode(pcm24(spoken(CLIPS[0]))).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        async with asyncio.timeout(PATIENCE_S):
            while json.loads(await socket.recv())["type"] != COMPLETED:
                pass


async def test_a_dropped_session_is_resumed(server: Server) -> None:
    data = pcm24(spoken(CLIPS[0]))
    url = server.url.replace("http", "ws") + "/v1/realtime?intent=transcription"
    async with connect(url) as socket:
        created = json.loads(await socket.recv())
        half = base64.b64encode(data[: len(data) // 2]).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": half}))
        token = created["speechpipe"]["resume_token"]
        last = json.loads(await socket.recv())["speechpipe"].get("seq", 0)
        socket.transport.abort()
    async with connect(f"{url}&resume={token}&last_seq={last}") as socket:
        greeting = json.loads(await socket.recv())
        assert greeting["speechpipe"]["resumed"]
        rest = base64.b64encode(data[greeting["speechpipe"]["received_bytes"] :]).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": rest}))
        async with asyncio.timeout(PATIENCE_S):
            while (event := json.loads(await socket.recv()))["type"] != COMPLETED:
                pass
    assert event["transcript"]
    assert (await whole(server, pcm(spoken(CLIPS[0])))).texts


@pytest.mark.parametrize("query", ["intent=conversation", "intent=transcription&colour=1", "model=gpt-9"])
async def test_a_query_that_means_nothing_is_refused(server: Server, query: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(server.url.replace("http", "ws") + f"/v1/realtime?{query}"):
            pass
    assert caught.value.response.status_code in (400, 404)
    assert json.loads(caught.value.response.body or b"{}")["error"]["message"]


async def test_what_a_bundle_does_not_take_is_said_once(server: Server) -> None:
    wishes = {"model": "scripted", "language": "xx", "hotwords": ["Okonkwo"]}
    async with connected(server, transcription=wishes) as connection:
        await append(connection, pcm24(spoken(CLIPS[0])))
        events = await until(connection, COMPLETED)
    codes = [event.warning["code"] for event in events if event.type == "speechpipe.warning"]
    assert "parameter_ignored" in codes
    assert len(codes) == len(set(codes))
