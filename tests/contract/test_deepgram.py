"""`/v1/listen` driven by the official `deepgram-sdk`."""

import threading
from typing import Any

import pytest
from deepgram import DeepgramClient
from deepgram.environment import DeepgramClientEnvironment
from deepgram.listen.v1.types import ListenV1Metadata, ListenV1Results, ListenV1SpeechStarted
from websockets.exceptions import InvalidStatus

from tests.conftest import Server
from tests.live_client import pcm, spoken


def client(server: Server) -> DeepgramClient:
    socket = server.url.replace("http", "ws")
    environment = DeepgramClientEnvironment(base=server.url, production=socket, agent=socket, agent_rest=server.url)
    return DeepgramClient(api_key="none", environment=environment)


def test_a_conversation_with_their_client(server: Server) -> None:
    data = pcm(spoken("sentence_slt", "digits"))
    options: dict[str, Any] = {"encoding": "linear16", "sample_rate": 16_000, "interim_results": True}
    with client(server).listen.v1.connect(
        model="default", vad_events=True, utterance_end_ms=1000, punctuate=True, **options
    ) as connection:

        def speak() -> None:
            for start in range(0, len(data), 3200):
                connection.send_media(data[start : start + 3200])
            connection.send_keep_alive()
            connection.send_finalize()
            connection.send_close_stream()

        threading.Thread(target=speak, daemon=True).start()
        messages = list(connection)
    results = [message for message in messages if isinstance(message, ListenV1Results)]
    finals = [message for message in results if message.is_final]
    texts = [message.channel.alternatives[0].transcript for message in finals]
    assert sum(bool(text) for text in texts) >= 2
    assert any(message.from_finalize for message in finals)
    assert any(isinstance(message, ListenV1SpeechStarted) for message in messages)
    words = [word for message in finals for word in message.channel.alternatives[0].words]
    assert all(word.start <= word.end for word in words)
    last = messages[-1]
    assert isinstance(last, ListenV1Metadata)
    assert last.duration == pytest.approx(len(data) / 32_000, abs=0.01)
    assert len(last.sha256) == 64


def test_a_refusal_reaches_their_client(server: Server) -> None:
    with (
        pytest.raises(InvalidStatus) as caught,
        client(server).listen.v1.connect(model="nova-3", encoding="linear16", sample_rate=16_000),
    ):
        pass
    assert caught.value.response.status_code == 404
