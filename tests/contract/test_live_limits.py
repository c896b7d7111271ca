"""Live audio against clients that cost much, leave in the wrong moment, or send what is not what they say."""

import asyncio
import base64
import contextlib
import io
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import soundfile
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import Server, StartServer
from tests.live_client import CLIPS, TWO, Client, is_final, listening, of_type, pcm, spoken, transcript, whole
from tests.sounds import encoded, encoded_by_ffmpeg

pytestmark = pytest.mark.anyio
SMALL = {"bundle": "scripted", "workers": "1", "live_workers": "1", "live_load_limit": "100"}
COMPLETED = "conversation.item.input_audio_transcription.completed"


@pytest.fixture(scope="module")
def limited(start_server: StartServer) -> Server:
    """A server with the default speed, a short time to come back, and a small budget."""
    return start_server(**SMALL, live_resume_s="3", live_max_held_bytes=str(16 * 2**20))


async def keep_alive(client: Client) -> None:
    """Say every second that the connection is still wanted."""
    while True:
        await client.say("KeepAlive")
        await asyncio.sleep(1)


async def until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.05)


def silence(seconds: int, rate: int, channels: int) -> bytes:
    """Return FLAC of digital silence: a few bytes a second."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, channels, format="FLAC", subtype="PCM_16") as out:
        for _ in range(seconds):
            out.write(np.zeros((rate, channels), np.int16))
    return buffer.getvalue()


async def test_hours_of_silence_in_a_few_bytes_cost_neither_memory_nor_speed(limited: Server) -> None:
    await whole(limited, encoded_by_ffmpeg(spoken(CLIPS[0]), "flac", "flac", 16_000), encoding=None, sample_rate=None)
    process = psutil.Process(limited.process.pid)
    idle, data, begun = process.memory_info().rss, silence(3600, 16_000, 1), time.monotonic()

    async def bomb() -> None:
        async with listening(limited, encoding=None, sample_rate=None) as client:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(6):
                    await client.socket.send(data)
                    await client.until(of_type("Metadata"))
            took_s = time.monotonic() - begun
            heard_s = sum(final["duration"] for final in client.finals)
            assert heard_s <= 10 + 4 * took_s + 1, "not faster than LIVE_MAX_SPEED"
            client.socket.transport.abort()

    most, done = idle, asyncio.gather(*(bomb() for _ in range(4)))
    while not done.done():
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(0.05)
    await done
    assert most < 2 * idle


async def test_a_container_that_nobody_speaks_into_is_refused_and_told(limited: Server) -> None:
    client = await whole(limited, silence(5, 384_000, 8), encoding=None, sample_rate=None)
    assert [message["variant"] for message in client.messages if message["type"] == "Error"] == [
        "unsupported_sample_rate"
    ]
    assert client.socket.close_code == 1008


async def test_large_appends_share_a_budget_and_gone_clients_do_not_count(limited: Server) -> None:
    process = psutil.Process(limited.process.pid)
    idle, most = process.memory_info().rss, 0
    audio = base64.b64encode(bytes(10 * 2**20)).decode()
    append = json.dumps({"type": "input_audio_buffer.append", "audio": audio})
    url = limited.url.replace("http", "ws") + "/v1/realtime?intent=transcription"
    codes: list[int | None] = []

    async def client() -> None:
        async with connect(url, compression=None, max_size=None) as socket:
            await socket.recv()
            # AttributeError: a closed transport of asyncio cannot be aborted, which the client library tries too.
            with contextlib.suppress(ConnectionClosed, TimeoutError, AttributeError):
                async with asyncio.timeout(5):
                    await socket.send(append)
                    await socket.send(append)
                    while True:
                        await socket.recv()
            codes.append(socket.close_code)
            with contextlib.suppress(AttributeError):
                socket.transport.abort()

    done = asyncio.gather(*(client() for _ in range(10)))
    while not done.done():
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(0.02)
    await done
    assert 1013 in codes, "some were told to come back"
    assert most < idle + 10 * 16 * 2**20, "ten clients with 27 MB each"
    assert limited.metric("speechpipe_requests_refused_total", cause="message_memory") >= 1
    # Their audio waits to be worked on, and still it is seen that they have gone.
    await until(lambda: limited.metric("speechpipe_live_sessions") <= limited.metric("speechpipe_live_detached"))
    assert (await whole(limited, TWO)).texts, "others are served"


@pytest.mark.parametrize("last_seq", ["²", "-1", "x", "1" * 30, "99"])
async def test_a_refused_attempt_to_resume_changes_nothing(limited: Server, last_seq: str) -> None:
    resumed = limited.metric("speechpipe_live_resumed_total")
    async with listening(limited, resume=True) as client:
        token = (await client.until(of_type("Session")))["resume_token"]
        await client.send(TWO[: len(TWO) // 2])
        client.socket.transport.abort()
    url = limited.url.replace("http", "ws") + f"/v1/realtime?intent=transcription&resume={token}&last_seq={last_seq}"
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url):
            pass
    assert caught.value.response.status_code == 400
    assert json.loads(caught.value.response.body or b"{}")["error"]["param"] in ("last_seq", "resume")
    with contextlib.suppress(InvalidStatus):
        async with listening(limited, resume=token, last_seq=last_seq) as client:
            assert (await client.close())[0] == 1008
    async with listening(limited, resume=token, last_seq=0) as client:
        session = await client.until(of_type("Session"))
        await client.send(TWO[session["received_bytes"] :])
        await client.say("CloseStream")
        assert (await client.close())[0] == 1000
    assert client.texts == (await whole(limited, TWO)).texts
    assert limited.metric("speechpipe_live_resumed_total") == resumed + 1


async def test_a_client_takes_its_session_over_while_its_old_connection_seems_open(server: Server) -> None:
    expected = (await whole(server, TWO)).texts
    async with listening(server, resume=True) as old:
        token = (await old.until(of_type("Session")))["resume_token"]
        await old.send(TWO[:60_000])
        async with listening(server, resume=token, last_seq=0) as new:
            session = await new.until(of_type("Session"))
            assert session["resumed"]
            assert (await old.close())[0] == 4409, "told at once, although it sends nothing"
            await asyncio.sleep(0.5)
            await new.send(TWO[session["received_bytes"] :])
            await new.say("CloseStream")
            assert (await new.close())[0] == 1000
    assert new.texts == expected


async def test_what_was_sent_last_can_be_had_again_if_the_connection_broke_then(limited: Server) -> None:
    async with listening(limited, resume=True) as client:
        token = (await client.until(of_type("Session")))["resume_token"]
        client.socket.transport.pause_reading()  # the network is gone, nobody knows yet
        await client.send(TWO)
        await client.say("CloseStream")
        await until(lambda: limited.metric("speechpipe_live_ended_kept") >= 1)
        client.socket.transport.abort()
    async with listening(limited, resume=token, last_seq=0) as again:
        assert (await again.close())[0] == 1000
    assert again.texts == (await whole(limited, TWO)).texts
    assert again.messages[-1]["type"] == "Metadata"
    with pytest.raises(InvalidStatus):
        async with listening(limited, resume=token, last_seq=0):
            pass


async def test_a_muted_microphone_gets_its_final(server: Server) -> None:
    speech = pcm(spoken(CLIPS[0], gap_s=0.0))
    async with listening(server, interim_results=True, utterance_end_ms=1000) as client:
        await client.send(speech)
        alive = asyncio.create_task(keep_alive(client))
        final = await client.until(lambda message: is_final(message) and bool(transcript(message)))
        assert final["speech_final"]
        assert not final["from_finalize"]
        end = await client.until(of_type("UtteranceEnd"))
        assert end["last_word_end"] == final["channel"]["alternatives"][0]["words"][-1]["end"]
        before_s = len(speech) / 32_000
        await client.send(pcm(spoken(CLIPS[1])))
        await client.say("CloseStream")
        await client.close()
        alive.cancel()
    later = [message for message in client.finals if transcript(message)][-1]
    assert later["channel"]["alternatives"][0]["words"][0]["start"] >= before_s - 0.05, "the audio clock stood still"
    assert client.messages[-1]["duration"] == pytest.approx(before_s + len(pcm(spoken(CLIPS[1]))) / 32_000, abs=0.01)


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [("flac", "flac", 16_000), ("ogg", "libopus", 48_000), ("mp3", "libmp3lame", 48_000), ("webm", "libopus", 48_000)],
)
async def test_a_microphone_muted_in_a_container_gets_everything_that_was_sent(
    server: Server, container: str, codec: str, rate: int
) -> None:
    data = encoded_by_ffmpeg(spoken(CLIPS[0], gap_s=0.0), container, codec, rate)
    expected = await whole(server, data, encoding=None, sample_rate=None)
    async with listening(
        server, encoding=None, sample_rate=None, interim_results=True, utterance_end_ms=1000
    ) as client:
        await client.send(data, 1000)
        alive = asyncio.create_task(keep_alive(client))
        final = await client.until(lambda message: is_final(message) and bool(transcript(message)))
        await client.until(of_type("UtteranceEnd"))
        await client.say("CloseStream")
        await client.close()
        alive.cancel()
    assert transcript(final) == " ".join(expected.texts)
    assert final["start"] + final["duration"] == pytest.approx(expected.messages[-1]["duration"], abs=0.1)
    assert client.texts == [transcript(final)], "nothing was left for the end"
    assert client.messages[-1]["duration"] == pytest.approx(expected.messages[-1]["duration"], abs=0.01)
    assert not warnings(client)


async def test_a_realtime_session_whose_audio_stops_completes_its_item(server: Server) -> None:
    url = server.url.replace("http", "ws") + "/v1/realtime?intent=transcription"
    detection = {"type": "server_vad", "idle_timeout_ms": 3000}
    update = {"type": "session.update", "session": {"audio": {"input": {"turn_detection": detection}}}}
    async with connect(url) as socket:
        await socket.send(json.dumps(update))
        audio = base64.b64encode(encoded_by_ffmpeg(spoken(CLIPS[0], gap_s=0.0), "s16le", "pcm_s16le", 24_000)).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        kinds: list[str] = []
        async with asyncio.timeout(60):
            while kinds[-1:] != ["input_audio_buffer.timeout_triggered"]:
                kinds.append(json.loads(await socket.recv())["type"])
    assert COMPLETED in kinds
    assert kinds.index("input_audio_buffer.speech_stopped") < kinds.index(COMPLETED)


def warnings(client: Any) -> list[str]:
    return [item["code"] for item in client.messages[-1]["speechpipe"]["warnings"]]


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("ogg", "libopus"), ("mp3", "libmp3lame")])
async def test_a_container_announced_as_linear16_is_heard_and_told(server: Server, container: str, codec: str) -> None:
    client = await whole(server, encoded_by_ffmpeg(spoken(CLIPS[0]), container, codec))
    assert client.texts
    assert "encoding_mismatch" in warnings(client)


async def test_floats_announced_as_linear16_are_told(server: Server) -> None:
    client = await whole(server, spoken(CLIPS[0]).astype("<f4").tobytes())
    assert "encoding_mismatch" in warnings(client)


async def test_an_mp4_with_its_index_at_the_end_is_an_error(server: Server) -> None:
    client = await whole(server, encoded_by_ffmpeg(spoken(CLIPS[0]), "ipod", "aac"), encoding=None, sample_rate=None)
    assert [message["variant"] for message in client.messages if message["type"] == "Error"] == ["undecodable_audio"]
    assert client.socket.close_code == 1008


async def test_audio_without_a_word_is_told(server: Server) -> None:
    client = await whole(server, bytes(64_000))
    assert client.texts == []
    assert warnings(client) == ["no_text"]


async def test_two_recordings_on_one_connection_are_both_heard(server: Server) -> None:
    one = encoded(spoken(CLIPS[0]))
    fragmented = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    two = encoded_by_ffmpeg(spoken(CLIPS[1]), "mp4", "aac", options=fragmented)
    both = await whole(server, one + two, encoding=None, sample_rate=None)
    first = await whole(server, one, encoding=None, sample_rate=None)
    assert both.texts[: len(first.texts)] == first.texts
    assert len(both.texts) > len(first.texts)


async def test_neither_keys_nor_resume_tokens_are_in_the_log_at_any_level(start_server: StartServer) -> None:
    chatty = start_server(**SMALL, log_level="debug", api_keys='["open-sesame-12345"]')
    url = chatty.url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000"
    headers = {"Authorization": "Token open-sesame-12345"}
    async with connect(f"{url}&resume=true", additional_headers=headers) as socket:
        token = json.loads(await socket.recv())["resume_token"]
        await socket.send(TWO[:3200])
    async with connect(f"{url}&resume={token}&last_seq=0", subprotocols=["token", "open-sesame-12345"]) as socket:  # type: ignore[list-item]
        await socket.recv()
    httpx.get(f"{chatty.url}/v1/reviews", headers={"Authorization": "Bearer open-sesame-12345"})
    text = "".join(chatty.log)
    assert "DEBUG" in text or "ready" in text
    assert "open-sesame" not in text
    assert token not in text


async def test_a_websocket_lasts_longer_than_a_head_may_take(start_server: StartServer) -> None:
    hasty = start_server(**SMALL, header_timeout_s="1")
    async with listening(hasty) as client:
        for _ in range(5):
            await client.say("KeepAlive")
            await asyncio.sleep(0.5)
        await client.send(TWO)
        await client.say("CloseStream")
        assert (await client.close())[0] == 1000
    assert client.texts


@pytest.mark.long
async def test_a_small_fuzz_of_live_streams(server: Server) -> None:
    from tests.live_fuzz import run_all, table

    outcomes = await run_all(server.url, range(5000, 5100), 6)
    wrong = [outcome.wrong for outcome in outcomes if outcome.wrong]
    assert not wrong, table(outcomes)
    assert server.metric("speechpipe_live_broken_total") == 0
    assert server.metric("speechpipe_live_missing_finals_total") == 0
