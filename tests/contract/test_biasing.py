"""Hotwords, prompts and translations, by the official clients, on a server with Whisper's released weights."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soxr
from deepgram.listen.v1.types import ListenV1Results
from websockets.exceptions import InvalidStatus

from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.foundation.storage.urls import sqlite_url
from speechpipe.foundation.tenants import tenant_of
from tests.conftest import Server, StartServer
from tests.contract.test_deepgram import client as deepgram
from tests.live_client import listening, of_type, pcm, whole
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES, sample

CLIP = SAMPLES / "stereo.flac"
SAID = "half past three"
"""What is said at the end of the clip; without help, tiny.en writes "F past 3"."""

PROMPT = f"It was {SAID}. The trains leave at {SAID}."
MIXED = np.concatenate([sample("stereo").mean(axis=1), np.zeros(12_800)]).astype(np.float32)
AUDIO = pcm(MIXED)


@pytest.fixture(scope="module")
def running(start_server: StartServer) -> Server:
    return start_server(bundle="default", live_load_limit="100", live_max_speed="30")


@pytest.fixture(scope="module")
def client(running: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def sessions(server: Server, count: int = 1) -> list[Record]:
    """Return the last records of sessions, once they are stored."""
    store = Store(sqlite_url(server.state / "speechpipe.db"))
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = [record for record in store.read() if record.kind == "session"]
        if len(found) >= count or time.monotonic() > deadline:
            store.close()
            return found
        time.sleep(0.05)


def heard(client: openai.OpenAI, **fields: Any) -> str:
    answer: Any = client.audio.transcriptions.create(file=CLIP, model="default", **fields)
    assert not answer.model_extra["speechpipe"]["warnings"]
    return str(answer.text).lower()


def test_an_upload_is_drawn_to_its_hotwords_and_its_prompt(client: openai.OpenAI, running: Server) -> None:
    assert SAID not in heard(client)
    assert SAID in heard(client, extra_body={"hotwords": f"Okonkwo, {SAID}"})
    assert SAID in heard(client, extra_body={"hotwords": ["Okonkwo", SAID]})
    assert SAID in heard(client, prompt=PROMPT)
    counts = [(one.measures["asr.hotwords"], one.measures["asr.prompted"]) for one in sessions(running, 4)]
    assert {(0, 0), (2, 0), (0, 1)} <= set(counts)
    assert SAID not in json.dumps([dict(one.measures) for one in sessions(running)])


@pytest.mark.long
def test_special_tokens_and_control_characters_are_plain_text(client: openai.OpenAI) -> None:
    special = "<|endoftext|> <|nospeech|> <|startoftranscript|><|translate|> \x07\x1b[2J"
    text = heard(client, prompt=special, extra_body={"hotwords": ["<|endoftext|>", "<|notimestamps|>\x08", SAID]})
    assert "next train" in text
    assert "<|" not in text


def test_too_many_and_too_long_hotwords_are_refused(client: openai.OpenAI, running: Server) -> None:
    for terms in (["word"] * 101, ["x" * 65]):
        with pytest.raises(openai.BadRequestError) as caught:
            client.audio.transcriptions.create(file=CLIP, model="default", extra_body={"hotwords": ",".join(terms)})
        assert (caught.value.code, caught.value.param) == ("invalid_parameter", "hotwords")
        assert "xxx" not in str(caught.value)
        for name in ("keyterm", "keywords"):
            options: dict[str, Any] = {name: terms}
            with (
                pytest.raises(InvalidStatus) as refused,
                deepgram(running).listen.v1.connect(
                    model="default", encoding="linear16", sample_rate=16_000, **options
                ),
            ):
                pass
            assert refused.value.response.status_code == 400
            assert name.encode() in refused.value.response.body


@pytest.mark.parametrize(
    "options",
    [{"keyterm": ["Okonkwo", SAID]}, pytest.param({"keywords": [f"{SAID}:2", "Okonkwo"]}, marks=pytest.mark.long)],
)
def test_keyterms_and_keywords_of_deepgrams_client(running: Server, options: dict[str, Any]) -> None:
    with deepgram(running).listen.v1.connect(
        model="default", encoding="linear16", sample_rate=16_000, **options
    ) as connection:

        def speak() -> None:
            for start in range(0, len(AUDIO), 3200):
                connection.send_media(AUDIO[start : start + 3200])
            connection.send_close_stream()

        threading.Thread(target=speak, daemon=True).start()
        results = [message for message in connection if isinstance(message, ListenV1Results) and message.is_final]
    assert SAID in " ".join(one.channel.alternatives[0].transcript for one in results).lower()


@pytest.mark.long
@pytest.mark.anyio
async def test_what_intensifiers_cannot_do_is_said(running: Server) -> None:
    client = await whole(running, AUDIO, keywords=[f"{SAID}:5", "quarter past:-1", "Okonkwo"])
    assert SAID in " ".join(client.texts).lower()
    (last,) = [message for message in client.messages if message["type"] == "Metadata"]
    assert [warning["code"] for warning in last["speechpipe"]["warnings"]] == ["parameter_ignored"] * 2
    with pytest.raises(InvalidStatus):
        async with listening(running, keywords="word:loud"):
            pass


@pytest.mark.anyio
async def test_a_resumed_session_keeps_its_hotwords(running: Server) -> None:
    async with listening(running, resume=True, keyterm=SAID) as client:
        token = (await client.until(of_type("Session")))["resume_token"]
        client.socket.transport.abort()
    async with listening(running, resume=token, last_seq=0) as client:
        assert (await client.until(of_type("Session")))["resumed"]
        await client.send(AUDIO)
        await client.say("CloseStream")
        await client.close()
    assert SAID in " ".join(client.texts).lower()


@pytest.mark.anyio
@pytest.mark.parametrize("biasing", [pytest.param({"hotwords": [SAID]}, marks=pytest.mark.long), {"prompt": PROMPT}])
async def test_prompt_and_hotwords_of_a_realtime_session(running: Server, biasing: dict[str, Any]) -> None:
    made = openai.AsyncOpenAI(api_key="none", base_url=f"{running.url}/v1")
    data = pcm(soxr.resample(MIXED, 16_000, 24_000))
    async with made.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        with_many: Any = {"transcription": {"model": "default", "hotwords": ["word"] * 101}}
        await connection.session.update(session={"type": "transcription", "audio": {"input": with_many}})
        given: Any = {"transcription": {"model": "default", **biasing}}
        await connection.session.update(session={"type": "transcription", "audio": {"input": given}})
        await connection.input_audio_buffer.append(audio=base64.b64encode(data).decode())
        events: list[Any] = []
        async with asyncio.timeout(PATIENCE_S):
            while sum(event.type.endswith("transcription.completed") for event in events) < 2:
                events.append(await connection.recv())
    await made.close()
    (error,) = [event.error for event in events if event.type == "error"]
    assert (error.code, error.param) == ("invalid_parameter", "session.audio.input.transcription.hotwords")
    assert SAID in events[-1].transcript.lower()


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the client's, by its overloads
def test_a_bundle_that_cannot_translate_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.translations.create(file=CLIP, model="whisper-1")
    assert (caught.value.code, caught.value.param) == ("translation_not_supported", "model")


@pytest.mark.long
def test_the_list_of_a_tenant(start_server: StartServer) -> None:
    running = start_server(bundle="default", api_keys='["acme-key", "zeta-key"]', operator_keys='["operator-key"]')

    def text(key: str, **fields: Any) -> str:
        with openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0) as made:
            return heard(made, **fields)

    def put(scope: str, *terms: str, key: str = "operator-key", **more: Any) -> httpx.Response:
        address, headers = f"{running.url}/v1/hotwords/{scope}", {"Authorization": f"Bearer {key}"}
        return httpx.put(address, json={"terms": terms, **more}, headers=headers, timeout=PATIENCE_S)

    answer = put("acme-key", SAID, "Okonkwo", SAID).json()
    assert answer | {"changed_at": 0, "actor": ""} == {
        "scope": tenant_of("acme-key"),
        "revision": 1,
        "changed_at": 0,
        "actor": "",
        "terms": [SAID, "Okonkwo"],
        "taken": True,
    }
    assert SAID in text("acme-key", extra_body={"hotwords": "Kubernetes"})
    assert sessions(running)[-1].measures["asr.hotwords"] == 3
    assert SAID not in text("zeta-key")
    assert put("default", SAID).status_code == 200
    assert put("acme-key", revision=0).json()["error"]["code"] == "conflict"
    assert put("acme-key", revision=1).json()["terms"] == []
    assert SAID in text("zeta-key")
    assert SAID not in text("acme-key"), "an empty list is one"
    assert put("acme-key", "x" * 65).json()["error"]["code"] == "invalid_parameter"
    assert put("acme-key", "a\0").json()["error"]["code"] == "control_character"
    assert put("nobody", "word").json()["error"]["code"] == "unknown_tenant"
    for refused in (put("acme-key", "word", key="acme-key"), httpx.get(f"{running.url}/v1/hotwords")):
        assert refused.status_code == 401, "terms may be names"
    found = httpx.get(f"{running.url}/v1/hotwords", headers={"Authorization": "Bearer operator-key"}).json()
    assert {row["scope"]: row["terms"] for row in found["scopes"]} == {"default": [SAID], tenant_of("acme-key"): []}


ABLE = """
kind = "asr"
name = "able"
version = "1"
implementation = "scripted"
description = "Takes everything."
languages = ["*"]
takes = ["prompt", "hotwords", "translation"]
"""


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_translations(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "able.toml").write_text(ABLE)
    bundle = 'kind = "bundle"\nname = "able"\nversion = "1"\ndescription = "x"\nlanguages = ["*"]\n'
    (tmp_path / "bundle.toml").write_text(f'{bundle}[vad]\ncard = "silero"\n[asr]\ncard = "able"\n')
    running = start_server(bundle="scripted", models_dir=str(tmp_path))
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as made:
        create = made.audio.translations.create
        whole = create(file=CLIP, model="able", response_format="verbose_json", prompt="x", temperature=0.0)
        assert whole.text
        assert whole.language == "english"
        assert whole.model_extra["task"] == "translate"  # type: ignore[index]
        assert create(file=CLIP, model="able").text == whole.text
        assert str(create(file=CLIP, model="able", response_format="text")).strip() == whole.text
        with pytest.raises(openai.BadRequestError, match="able can"):
            create(file=CLIP, model="whisper-1")
        assert sessions(running, 3)[0].measures["asr.translated"] == 1
        degree = {"degree": "assist", "reason": "a test", "confirm": True}
        assert httpx.put(f"{running.url}/v1/automation/default", json=degree).status_code == 200
        with pytest.raises(openai.ConflictError) as caught:
            create(file=CLIP, model="able")
        assert caught.value.code == "person_required"
