"""`/v1/listen`: what clients rely on."""

import asyncio

import httpx
import numpy as np
import pytest

from tests.conftest import Server
from tests.live_client import CLIPS, TWO, is_final, listening, pcm, spoken, transcript, whole
from tests.sounds import encoded, encoded_by_ffmpeg

pytestmark = pytest.mark.anyio


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
    wav = encoded(np.frombuffer(TWO, "<i2").astype(np.float32) / np.float32(32768))
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


CODECS = {"wav": "pcm_s16le", "flac": "flac", "ogg": "libopus", "webm": "libopus", "mp3": "libmp3lame"}


@pytest.mark.parametrize("container", CODECS)
async def test_containers_need_no_description(server: Server, container: str) -> None:
    data = encoded_by_ffmpeg(spoken(CLIPS[0]), container, CODECS[container])
    client = await whole(server, data, encoding=None, sample_rate=None)
    assert client.texts
    assert client.socket.close_code == 1000


async def test_telephone_audio(server: Server) -> None:
    data = encoded_by_ffmpeg(spoken(CLIPS[0]), "mulaw", "pcm_mulaw", 8000)
    client = await whole(server, data, encoding="mulaw", sample_rate=None)
    assert client.texts
    assert client.messages[-1]["duration"] == pytest.approx(len(data) / 8000, abs=0.01)


FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
LIVE_CONTAINERS: dict[str, tuple[str, str, int, dict[str, str]]] = {
    "webm": ("webm", "libopus", 48_000, {}),
    "ogg": ("ogg", "libopus", 48_000, {}),
    "adts": ("adts", "aac", 48_000, {}),
    "mp4": ("mp4", "aac", 48_000, FRAGMENTED),
    "mp3": ("mp3", "libmp3lame", 48_000, {}),
    "flac": ("flac", "flac", 16_000, {}),
}
"""Container, codec, samples per second and the writer's options."""


def contained(form: str, *names: str) -> bytes:
    """Return clips of speech, without silence at the end, in a container that can be sent while it is written."""
    container, codec, rate, options = LIVE_CONTAINERS[form]
    return encoded_by_ffmpeg(spoken(*names, gap_s=0.0), container, codec, rate, options=options)


@pytest.mark.parametrize("form", LIVE_CONTAINERS)
async def test_finalize_takes_its_turn_after_the_audio_of_a_container(server: Server, form: str) -> None:
    data = contained(form, CLIPS[0])
    expected = await whole(server, data, encoding=None, sample_rate=None)
    async with listening(server, encoding=None, sample_rate=None) as client:
        await client.send(data, 1000)
        await client.say("Finalize")
        final = await client.until(lambda message: is_final(message) and message["from_finalize"])
        await client.say("CloseStream")
        await client.close()
    assert transcript(final) == " ".join(expected.texts)
    end_s = final["start"] + final["duration"]
    assert end_s == pytest.approx(expected.messages[-1]["duration"], abs=0.1), "every whole frame was heard"
    assert client.texts == [transcript(final)]
    assert client.messages[-1]["duration"] == pytest.approx(expected.messages[-1]["duration"], abs=0.01)
    assert not client.messages[-1]["speechpipe"].get("warnings")
