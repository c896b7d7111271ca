"""Texts as clients ask for them, on a real server: uploads, streams, live, and answers of reviewers."""

import json
import os
import re
from pathlib import Path

import httpx
import pytest

from tests import preloaded
from tests.conftest import Server, StartServer
from tests.contract.test_realtime import COMPLETED, append, connected, pcm24, until
from tests.control.review.service import ReviewClient
from tests.live_client import CLIPS, TWO, spoken, transcript, whole
from tests.sounds import SAMPLES

MASKED = re.compile(r"[bdklm]\*+")


@pytest.fixture(scope="module")
def masking(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server for which all that the scripted recognizer says is profane."""
    file = tmp_path_factory.mktemp("words") / "words.toml"
    file.write_text('[default]\nadd = ["b*", "d*", "k*", "l*", "m*"]\n')
    return start_server(bundle="scripted", profanity_words=str(file))


def uploaded(server: Server, **fields: str) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        files={"file": (SAMPLES / "digits.flac").read_bytes()},
        data={"model": "default", **fields},
        timeout=60,
    )


def masked(text: str) -> bool:
    return bool(text) and all(MASKED.fullmatch(word) for word in text.split())


def test_an_upload_is_masked_wherever_its_text_stands(masking: Server) -> None:
    raw = uploaded(masking).json()
    assert not masked(raw["text"])
    assert "formatting" not in raw["speechpipe"]
    answer = uploaded(masking, profanity_filter="true").json()
    assert masked(answer["text"])
    assert len(answer["text"]) == len(raw["text"])
    assert answer["speechpipe"]["formatting"] == {"profanity_filter": True}
    verbose = uploaded(
        masking, profanity_filter="true", response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    ).json()
    assert masked(" ".join(word["word"] for word in verbose["words"]))
    assert masked(" ".join(segment["text"] for segment in verbose["speechpipe"]["segments"]))
    assert "*" in uploaded(masking, profanity_filter="true", response_format="srt").text
    events = [
        json.loads(line[6:])
        for line in uploaded(masking, profanity_filter="true", stream="true").text.splitlines()
        if line
    ]
    assert masked("".join(event["delta"] for event in events[:-1]))
    assert masked(events[-1]["text"])


def test_what_cannot_be_done_is_a_warning(masking: Server) -> None:
    answer = uploaded(masking, punctuate="true", numerals="true").json()
    said = " ".join(warning["message"] for warning in answer["speechpipe"]["warnings"])
    assert "numerals was not honoured" in said  # the scripted recognizer does not say what it speaks
    assert "no punctuation was added" in said
    assert uploaded(masking, numerals="true", language="en").json()["speechpipe"]["warnings"] == []
    assert uploaded(masking, numerals="perhaps").json()["error"]["param"] == "numerals"


@pytest.mark.anyio
async def test_live_text_is_masked_before_it_is_final(masking: Server) -> None:
    client = await whole(masking, TWO, interim_results=True, profanity_filter=True)
    results = [message for message in client.messages if message["type"] == "Results"]
    texts = [transcript(message) for message in results if transcript(message)]
    assert texts
    assert all(map(masked, texts))
    assert client.messages[-1]["speechpipe"]["formatting"] == {"profanity_filter": True}


def test_a_reviewer_sees_the_raw_text_and_the_client_what_it_asked_for(masking: Server) -> None:
    reviews = ReviewClient(masking)
    with reviews.http:
        reviews.policy(degree="assist", audit_share=0.0)
        body = reviews.upload(profanity_filter="true", punctuate="false").json()
        held = reviews.claimed()
        assert held["segments"]
        assert not any("*" in segment["text"] for segment in held["segments"])
        assert reviews.submit(held, "Well, BULLSHIT!").status_code == 200
        answer = reviews.http.get(body["status_url"]).json()
        assert "b*******" in answer["text"]
        assert "!" not in answer["text"]
        reviews.policy(degree="full")


def test_a_wrong_file_of_words_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "words.toml"
    file.write_text("[default]\nplus = []\n")
    done = preloaded.run(
        *("serve", "--port", "0"),
        env={**os.environ, "SPEECHPIPE_PROFANITY_WORDS": str(file), "SPEECHPIPE_STATE_DIR": str(tmp_path)},
    )
    assert done.returncode == 2
    assert str(file).encode() in done.stderr


@pytest.mark.anyio
async def test_a_realtime_session_is_written_as_asked(masking: Server) -> None:
    async with connected(masking, transcription={"model": "default", "profanity_filter": True}) as connection:
        await append(connection, pcm24(spoken(CLIPS[0])))
        events = await until(connection, COMPLETED)
    assert masked(events[-1].transcript)
    assert masked("".join(event.delta for event in events if event.type.endswith(".delta")))
