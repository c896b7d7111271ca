"""`/v1/listen`: what clients rely on, what bad ones get, and that nobody else notices."""

import asyncio
import contextlib
import json
import signal

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import Server, StartServer
from tests.live_client import Message, by_ffmpeg, listening, of_type, pcm, spoken, transcript, whole
from tests.sounds import EXPECTED

pytestmark = pytest.mark.anyio
CLIPS = [name for name, entry in EXPECTED.items() if entry.get("text")][:6]
TWO = pcm(spoken(*CLIPS[:2]))


def is_final(message: Message) -> bool:
    return bool(message["type"] == "Results" and message["is_final"])


async def test_finals_are_contiguous_and_cover_everything(server: Server) -> None:
    client = await whole(server, TWO, interim_results=True, vad_events=True)
    end = 0.0
    for final in client.finals:
        assert final["start"] == pytest.approx(end, abs=2e-3)
        end = final["start"] + final["duration"]
        words = final["channel"]["alternatives"][0]["words"]
        assert all(final["start"] - 1e-3 <= word["start"] <= word["end"] <= end + 2e-3 for word in words)
    metadata = client.messages[-1]
    assert metadata["type"] == "Metadata"
    assert end == pytest.approx(metadata["duration"], abs=5e-3)
    assert metadata["duration"] == pytest.approx(len(TWO) / 32_000, abs=1e-3)
    (accounting,) = metadata["speechpipe"]["accounting"]
    assert accounting["received"] == len(TWO) // 2
    assert accounting["pending"] == 0
    assert client.socket.close_code == 1000
    starts = [message for message in client.messages if message["type"] == "SpeechStarted"]
    assert len(starts) == sum(final["speech_final"] for final in client.finals)


async def test_live_and_upload_hear_the_same_segments(server: Server) -> None:
    client = await whole(server, TWO)
    wav = by_ffmpeg(TWO, "-f", "wav")
    answer = httpx.post(
        f"{server.url}/v1/audio/transcriptions", files={"file": wav}, data={"model": "default"}, timeout=30
    )
    assert " ".join(client.texts) == answer.json()["text"]


async def test_partial_results_grow_into_the_final_and_never_follow_it(server: Server) -> None:
    async with listening(server, interim_results=True) as client:
        data = pcm(spoken(CLIPS[0]))
        for start in range(0, len(data), 3200):
            await client.socket.send(data[start : start + 3200])
            await asyncio.sleep(0.03)  # a person speaks, only faster
        await client.say("CloseStream")
        await client.close()
    results = [message for message in client.messages if message["type"] == "Results"]
    interim = [transcript(message) for message in results if not message["is_final"]]
    assert interim
    (final,) = client.texts
    assert all(final.startswith(text) for text in interim)
    first_final = results.index(client.finals[0])
    assert all(message["is_final"] for message in results[first_final:])


async def test_finalize_answers_at_once_speech_or_not(server: Server) -> None:
    async with listening(server) as client:
        await client.say("Finalize")
        silent = await client.until(is_final)
        assert silent["from_finalize"]
        assert transcript(silent) == ""
        data = pcm(spoken(CLIPS[0], gap_s=0.0))
        await client.send(data[: len(data) * 2 // 3])
        await client.say("Finalize")
        final = await client.until(is_final)
        assert final["from_finalize"]
        assert transcript(final)
        await client.send(data[len(data) * 2 // 3 :])
        await client.say("CloseStream")
        await client.close()


async def test_utterance_end_comes_on_the_audio_clock(server: Server) -> None:
    audio = pcm(spoken(CLIPS[0], gap_s=2.0))
    client = await whole(server, audio, interim_results=True, utterance_end_ms=1000)
    kinds = [message["type"] for message in client.messages]
    (end,) = [message for message in client.messages if message["type"] == "UtteranceEnd"]
    assert end["last_word_end"] == client.finals[0]["channel"]["alternatives"][0]["words"][-1]["end"]
    assert kinds.index("UtteranceEnd") > kinds.index("Results")


async def test_endpointing_is_the_clients_to_choose(server: Server) -> None:
    audio = pcm(np.concatenate([spoken(CLIPS[0], gap_s=0.7), spoken(CLIPS[1])]))
    apart = await whole(server, audio, endpointing=400)
    together = await whole(server, audio, endpointing=2000)
    never = await whole(server, audio, endpointing=False)
    assert len(apart.texts) > len(together.texts)
    assert not any(final["speech_final"] for final in never.finals)
    raised = await whole(server, audio, endpointing=10)
    warnings = raised.messages[-1]["speechpipe"]["warnings"]
    assert [warning["code"] for warning in warnings] == ["endpointing_raised"]


async def test_channels_are_transcribed_apart(server: Server) -> None:
    left, right = spoken(CLIPS[0]), spoken(CLIPS[1])
    size = min(len(left), len(right))
    both = pcm(np.stack([left[:size], right[:size]], axis=1).reshape(-1))
    client = await whole(server, both, channels=2, multichannel=True)
    for channel, alone in enumerate((left, right)):
        mono = await whole(server, pcm(alone[:size]))
        texts = [
            transcript(final) for final in client.finals if final["channel_index"] == [channel, 2] and transcript(final)
        ]
        assert texts == mono.texts


@pytest.mark.parametrize("container", ["wav", "flac", "ogg", "webm", "mp3"])
async def test_containers_need_no_description(server: Server, container: str) -> None:
    codec = ["-c:a", "libopus"] if container in ("ogg", "webm") else []
    data = by_ffmpeg(pcm(spoken(CLIPS[0])), *codec, "-f", container)
    client = await whole(server, data, encoding=None, sample_rate=None)
    assert client.texts
    assert client.socket.close_code == 1000


async def test_telephone_audio(server: Server) -> None:
    data = by_ffmpeg(pcm(spoken(CLIPS[0])), "-f", "mulaw", "-ar", "8000")
    client = await whole(server, data, encoding="mulaw", sample_rate=None)
    assert client.texts
    assert client.messages[-1]["duration"] == pytest.approx(len(data) / 8000, abs=0.01)


# ---- bad input ----


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"sample_rate": 100}, 400, "INVALID_PARAMETER"),
        ({"sample_rate": None}, 400, "INVALID_PARAMETER"),
        ({"encoding": "speex"}, 400, "INVALID_PARAMETER"),
        ({"endpointing": "soon"}, 400, "INVALID_PARAMETER"),
        ({"utterance_end_ms": 1000}, 400, "INVALID_PARAMETER"),
        ({"interim_results": True, "utterance_end_ms": 10}, 400, "INVALID_PARAMETER"),
        ({"channels": 0}, 400, "INVALID_PARAMETER"),
        ({"colour": "blue"}, 400, "UNKNOWN_PARAMETER"),
        ({"redact": "pci"}, 400, "INVALID_PARAMETER"),
        ({"callback": "http://x"}, 400, "INVALID_PARAMETER"),
        ({"vad.threshold": 7}, 400, "INVALID_PARAMETER"),
        ({"vad.nonsense": 1}, 400, "INVALID_PARAMETER"),
        ({"model": "nova-3"}, 404, "MODEL_NOT_FOUND"),
        ({"resume": "no-such-token"}, 400, "RESUME_UNKNOWN"),
    ],
    ids=str,
)
async def test_a_query_that_means_nothing_is_refused_and_says_why(
    server: Server, query: dict[str, object], status: int, code: str
) -> None:
    refused = server.metric("speechpipe_requests_refused_total", cause=code.lower())
    with pytest.raises(InvalidStatus) as caught:
        async with listening(server, **query):
            pass
    body = json.loads(caught.value.response.body or b"{}")
    assert (caught.value.response.status_code, body["err_code"]) == (status, code)
    assert body["err_msg"]
    assert server.metric("speechpipe_requests_refused_total", cause=code.lower()) == refused + 1


async def test_a_browser_is_told_by_close_code(server: Server) -> None:
    url = server.url.replace("http", "ws") + "/v1/listen?colour=blue"
    async with connect(url, origin="http://example.org") as socket:  # type: ignore[arg-type]
        assert json.loads(await socket.recv())["variant"] == "unknown_parameter"
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1008


@pytest.mark.parametrize("garbage", [b"nothing of the kind" * 9, b"OggS" + bytes(range(256)) * 40, bytes(400)])
async def test_garbage_in_place_of_a_container_is_1008(server: Server, garbage: bytes) -> None:
    async with listening(server, encoding=None, sample_rate=None) as client:
        await client.send(garbage)
        with contextlib.suppress(ConnectionClosed):
            await client.say("CloseStream")
        code, _ = await client.close()
    assert code == 1008
    assert [message["variant"] for message in client.messages if message["type"] == "Error"] == ["undecodable_audio"]


async def test_odd_lengths_and_single_bytes_are_just_a_stream(server: Server) -> None:
    data = pcm(spoken(CLIPS[0]))
    expected = (await whole(server, data)).texts
    async with listening(server) as client:
        await client.send(data[:2000], step=1)
        await client.send(data[2000:], step=3333)
        await client.say("CloseStream")
        await client.close()
    assert client.texts == expected


async def test_one_huge_message_is_taken_and_a_larger_one_refused(server: Server) -> None:
    small = await whole(server, TWO)
    async with listening(server) as client:
        await client.socket.send(TWO)
        await client.say("CloseStream")
        await client.close()
    assert client.texts == small.texts
    async with listening(server) as client:
        with contextlib.suppress(ConnectionClosed):
            await client.socket.send(bytes(24 * 2**20))
        code, _ = await client.close()
    assert code == 1009


@pytest.mark.parametrize("text", ["not json", "[]", '{"type": 5}', '{"type": "Dance"}', "{" * 5000])
async def test_text_that_means_nothing_is_told_and_the_stream_goes_on(server: Server, text: str) -> None:
    async with listening(server) as client:
        await client.socket.send(text)
        error = await client.until(of_type("Error"))
        assert error["variant"] == "SchemaError"
        await client.send(pcm(spoken(CLIPS[0])))
        await client.say("CloseStream")
        assert (await client.close())[0] == 1000
    assert client.texts


async def test_neither_audio_nor_keep_alive_is_1011(start_server: StartServer) -> None:
    hasty = start_server(
        bundle="scripted", live_load_limit="100", workers="1", live_workers="1", live_idle_timeout_s="0.6"
    )
    async with listening(hasty) as client:
        await client.send(pcm(spoken(CLIPS[0], gap_s=0.0)))
        for _ in range(4):
            await asyncio.sleep(0.3)  # longer than the limit in all, never at once
            await client.say("KeepAlive")
        assert not client.socket.close_code
        code, _ = await client.close()
    assert code == 1011
    assert client.texts, "what was said before is transcribed"
    assert client.messages[-2]["variant"] == "idle_timeout"


async def test_a_client_far_faster_than_real_time_is_held_back_and_loses_nothing(server: Server) -> None:
    long = pcm(np.concatenate([spoken(*CLIPS[:3])] * 6))  # more than the burst that is free
    fast = asyncio.create_task(whole(server, long))
    beside = await whole(server, TWO)
    alone = await whole(server, TWO)
    assert beside.texts == alone.texts
    client = await fast
    (accounting,) = client.messages[-1]["speechpipe"]["accounting"]
    assert accounting["received"] == len(long) // 2
    assert accounting["dropped_by_overload"] == 0


async def test_a_client_that_never_reads_holds_up_nobody(start_server: StartServer) -> None:
    impatient = start_server(
        bundle="scripted",
        live_load_limit="100",
        workers="1",
        live_workers="1",
        live_send_timeout_s="0.5",
        live_max_speed="0",
    )
    url = impatient.url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true"
    async with connect(url, max_queue=1, ping_interval=None, compression=None) as deaf:
        deaf.transport.pause_reading()
        noise = pcm(np.concatenate([spoken(CLIPS[0], gap_s=0.6)] * 3))

        async def flood() -> None:
            for _ in range(400):
                await deaf.send(noise)
                await deaf.send("x" * 100)

        flooding = asyncio.create_task(flood())
        client = await whole(impatient, TWO)
        assert client.texts
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        deaf.transport.abort()


async def test_silence_has_no_text_and_costs_no_memory(server: Server) -> None:
    client = await whole(server, bytes(32_000 * 60))
    assert client.texts == []
    assert all(final["channel"]["alternatives"][0]["words"] == [] for final in client.finals)
    assert len(client.finals) == 12  # told every five seconds that there is nothing


async def test_isolation_many_sessions_at_once_never_exchange_text(server: Server) -> None:
    """Each session's words are a digest of its own samples: one foreign sample would show."""
    random = np.random.default_rng(7)
    audios = [pcm(spoken(*random.choice(CLIPS, 2)) * np.float32(random.uniform(0.3, 0.9))) for _ in range(12)]
    alone = [(await whole(server, audio)).texts for audio in audios]
    assert len({tuple(texts) for texts in alone}) == len(audios)
    together = await asyncio.gather(*(whole(server, audio, interim_results=True) for audio in audios))
    assert [client.texts for client in together] == alone


# ---- resuming, dying workers, shutting down ----


async def test_a_dropped_connection_is_resumed_without_losing_or_repeating_a_final(server: Server) -> None:
    audio = pcm(spoken(*CLIPS[:4]))
    expected = (await whole(server, audio)).texts
    random = np.random.default_rng(3)
    finals: dict[int, str] = {}
    token, last_seq, sent = "true", 0, 0
    for attempt in range(6):
        query: dict[str, object] = {"resume": token} | ({"last_seq": last_seq} if attempt else {})
        async with listening(server, **query) as client:
            session = await client.until(of_type("Session"))
            assert session["resumed"] == (attempt > 0)
            token, sent = session["resume_token"], session["received_bytes"]
            until = len(audio) if attempt == 5 else min(len(audio), sent + int(random.integers(20_000, 90_000)))
            await client.send(audio[sent:until])
            if attempt == 5:
                await client.say("CloseStream")
                await client.close()
            elif attempt % 2:
                with contextlib.suppress(TimeoutError):  # leave in the middle of reading, too
                    await asyncio.wait_for(client.until(is_final), 0.3)
            client.socket.transport.abort()
            for message in client.messages:
                if "seq" in message.get("speechpipe", {}):
                    seq = message["speechpipe"]["seq"]
                    assert seq > last_seq, "said twice"
                    last_seq = seq
                    if is_final(message) and transcript(message):
                        finals[seq] = transcript(message)
    assert list(finals.values()) == expected


async def test_a_session_is_not_resumed_for_somebody_else_or_from_the_future(server: Server) -> None:
    async with listening(server, resume=True) as client:
        token = (await client.until(of_type("Session")))["resume_token"]
        client.socket.transport.abort()
    async with listening(server, resume=token, last_seq=99) as client:
        code, _ = await client.close()
    assert code == 1008
    assert client.messages[0]["variant"] == "resume_impossible"


async def test_the_finals_of_killed_workers_arrive_and_are_the_same(start_server: StartServer) -> None:
    fragile = start_server(bundle="scripted", live_load_limit="100", workers="1", live_workers="2")
    audio = pcm(spoken(*CLIPS[:3]))
    expected = (await whole(fragile, audio)).texts

    async def kill_now_and_then() -> None:
        for _ in range(4):
            await asyncio.sleep(0.25)
            for process in fragile.workers()[-1:]:
                process.send_signal(signal.SIGKILL)

    killing = asyncio.create_task(kill_now_and_then())
    clients = await asyncio.gather(*(whole(fragile, audio) for _ in range(6)))
    await killing
    assert [client.texts for client in clients] == [expected] * 6
    assert fragile.metric("speechpipe_worker_restarts_total", cause="crash") >= 2
    assert fragile.metric("speechpipe_live_missing_finals_total") == 0
    assert fragile.metric("speechpipe_live_out_of_order_finals_total") == 0


async def test_a_server_that_stops_sends_the_finals_first(start_server: StartServer) -> None:
    leaving = start_server(bundle="scripted", live_load_limit="100", workers="1", live_workers="1")
    async with listening(leaving) as client:
        await client.send(pcm(spoken(CLIPS[0], gap_s=0.0)))
        leaving.process.send_signal(signal.SIGTERM)
        code, _ = await client.close()
    assert client.texts
    assert code == 1012


async def test_keys_are_asked_for_in_every_way_that_clients_send_them(start_server: StartServer) -> None:
    locked = start_server(
        bundle="scripted", live_load_limit="100", workers="1", live_workers="1", api_keys='["secret"]'
    )
    url = locked.url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000"
    for headers in ({}, {"Authorization": "Token wrong"}):
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, additional_headers=headers):
                pass
        assert caught.value.response.status_code == 401
    for scheme in ("Token", "Bearer"):
        async with connect(url, additional_headers={"Authorization": f"{scheme} secret"}):
            pass
    async with connect(url, subprotocols=["token", "secret"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "token"


async def test_when_there_is_no_room_a_new_session_is_told_when_to_come_back(start_server: StartServer) -> None:
    full = start_server(bundle="scripted", live_load_limit="100", workers="1", live_workers="1", live_max_sessions="1")
    async with listening(full):
        with pytest.raises(InvalidStatus) as caught:
            async with listening(full):
                pass
    assert caught.value.response.status_code == 503
    assert int(caught.value.response.headers["Retry-After"]) >= 1
    assert full.metric("speechpipe_requests_refused_total", cause="overloaded") == 1
