"""Speech that is cut off in the middle of a word, through the server: its words are there, and it is said how."""

import asyncio
from typing import Any

import httpx
import pytest

from speechpipe.types import SAMPLE_RATE_HZ, Samples
from tests.cascade.asr.test_cut_speech import joined_speech
from tests.conftest import Server, StartServer
from tests.live_client import Client, pcm, transcript, whole
from tests.patience import PATIENCE_S
from tests.sounds import encoded

CUTS_S = ((4.05, 7.38), (4.05, 7.42), (4.05, 7.46), (4.09, 7.40), (4.81, 6.82), (5.13, 7.40))
"""Of which some need what is tested here, some live and others as uploads."""


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    return start_server(bundle="embedded", workers="1", live_workers="1", live_load_limit="100", live_max_speed="30")


@pytest.fixture(scope="module")
def cuts() -> list[Samples]:
    speech = joined_speech()
    return [speech[round(start * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)] for start, end in CUTS_S]


def upload(server: Server, audio: Samples) -> dict[str, Any]:
    files = {"file": ("a.wav", encoded(audio))}
    data = {"model": "embedded", "response_format": "verbose_json"}
    answer = httpx.post(f"{server.url}/v1/audio/transcriptions", data=data, files=files, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def recovered(server: Server, channel: str) -> float:
    return server.metric("speechpipe_asr_recovered_segments_total", channel=channel)


@pytest.mark.long
def test_uploads_that_end_in_mid_word_keep_their_words(server: Server, cuts: list[Samples]) -> None:
    seen = 0
    for audio in cuts[len(cuts) // 2 :]:
        answer = upload(server, audio)
        assert answer["text"]
        ours = answer["speechpipe"]
        count = sum(segment["recovered"] for segment in ours["segments"])
        codes = [warning["code"] for warning in ours["warnings"]]
        assert ("text_recovered" in codes) == bool(count)
        seen += count
    assert seen, "none of these cuts needed what is tested here"
    assert recovered(server, "upload") == seen


@pytest.mark.long
def test_live_sessions_that_end_in_mid_word_keep_their_words(server: Server, cuts: list[Samples]) -> None:
    async def speak() -> list[Client]:
        return [await whole(server, pcm(audio), model="embedded", interim_results=True) for audio in cuts]

    seen = 0
    for client in asyncio.run(speak()):
        assert client.texts, "a client that saw partial results gets a final with words"
        count = sum(message["speechpipe"].get("recovered", False) for message in client.finals if transcript(message))
        closing = next(message for message in client.messages if message["type"] == "Metadata")
        codes = [warning["code"] for warning in closing["speechpipe"]["warnings"]]
        assert ("text_recovered" in codes) == bool(count)
        seen += count
    assert recovered(server, "listen") == seen
