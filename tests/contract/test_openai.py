"""The official `openai` client against a running server: every response format, granularity, event and error."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.audio import TranscriptionTextDoneEvent

from tests.conftest import Server, StartServer
from tests.scripted_bundles import scripted_bundle
from tests.sounds import EXPECTED, SAMPLES, sample

CLIP = SAMPLES / "long_pauses.flac"
SPANS = EXPECTED["long_pauses"]["speech"]


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_json(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(file=CLIP, model="whisper-1")
    assert answer.text
    assert answer.usage is not None
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == 22  # 21.6 s, rounded up


def test_text(client: openai.OpenAI) -> None:
    text = client.audio.transcriptions.create(file=CLIP, model="default", response_format="text")
    expected = client.audio.transcriptions.create(file=CLIP, model="default").text
    assert str(text).rstrip("\n") == expected


def test_srt_and_vtt_start_when_the_first_words_are_spoken(client: openai.OpenAI) -> None:
    srt = str(client.audio.transcriptions.create(file=CLIP, model="default", response_format="srt"))
    vtt = str(client.audio.transcriptions.create(file=CLIP, model="default", response_format="vtt"))
    assert vtt.startswith("WEBVTT\n\n00:00:0")
    cues = re.findall(r"(\d+)\n(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})\n(.+)\n\n", srt)
    assert [number for number, *_ in cues] == [str(index + 1) for index in range(len(cues))]
    first = float(cues[0][1].split(":")[2].replace(",", "."))
    assert first == pytest.approx(SPANS[0][0], abs=0.4), "two seconds of silence come first"
    assert [cue[3] for cue in cues] == re.findall(r" --> \S+\n(.+)\n\n", vtt)


def test_verbose_json_has_segments_by_default(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(file=CLIP, model="default", response_format="verbose_json")
    assert answer.duration == pytest.approx(EXPECTED["long_pauses"]["duration_s"], abs=0.01)
    assert answer.words is None
    assert answer.segments is not None
    assert len(answer.segments) == len(SPANS)
    for number, (segment, (start, end)) in enumerate(zip(answer.segments, SPANS, strict=True)):
        assert segment.id == number
        assert segment.start == pytest.approx(start, abs=0.4)
        assert segment.end == pytest.approx(end, abs=0.4)
        assert segment.avg_logprob <= 0
        assert 0 <= segment.no_speech_prob < 0.5
        assert segment.compression_ratio > 0
    assert " ".join(segment.text for segment in answer.segments) == answer.text


def test_verbose_json_with_words(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        file=CLIP, model="default", response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert answer.segments is None
    assert answer.words is not None
    assert " ".join(word.word for word in answer.words) == answer.text
    starts = [word.start for word in answer.words]
    assert starts == sorted(starts)


def test_our_extras_stand_under_one_key(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        file=CLIP,
        model="default",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        chunking_strategy={
            "type": "server_vad",
            "threshold": 0.4,
            "prefix_padding_ms": 200,
            "silence_duration_ms": 700,
        },
        extra_body={"vad": json.dumps({"padding_s": 0.1})},
    )
    extras = answer.model_extra["speechpipe"]  # type: ignore[index]
    vad = extras["bundle"]["vad"]["parameters"]
    asked = {"threshold": 0.4, "pre_roll_s": 0.2, "min_silence_s": 0.7, "padding_s": 0.1}
    assert {name: vad[name] for name in asked} == asked
    accounting = extras["accounting"]
    assert accounting["received"] == len(sample("long_pauses"))
    assert accounting["pending"] == 0
    assert accounting["received"] == accounting["in_utterances"] + accounting["dropped_by_vad"]
    assert extras["bundle"]["name"] == "scripted"
    assert extras["warnings"] == []
    assert answer.words is not None
    assert answer.segments is not None


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(file=CLIP, model="default", include=["logprobs"])
    assert answer.logprobs is not None
    assert " ".join(item.token or "" for item in answer.logprobs) == answer.text
    assert all((item.logprob or 0.0) <= 0 for item in answer.logprobs)
    assert bytes(int(value) for value in answer.logprobs[0].bytes or []).decode() == answer.logprobs[0].token


def test_streamed_events_add_up_to_the_whole_text(client: openai.OpenAI) -> None:
    deltas: list[str] = []
    done: list[TranscriptionTextDoneEvent] = []
    with client.audio.transcriptions.create(file=CLIP, model="default", stream=True) as events:
        for event in events:
            if event.type == "transcript.text.delta":
                assert not done
                deltas.append(event.delta)
            elif event.type == "transcript.text.done":
                done.append(event)
    assert len(deltas) == len(SPANS)
    assert len(done) == 1
    assert "".join(deltas) == done[0].text
    assert done[0].text == client.audio.transcriptions.create(file=CLIP, model="default").text


def test_what_the_bundle_cannot_honour_is_said(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as made:
        raw = made.audio.transcriptions.with_raw_response.create(
            file=SAMPLES / "digits.flac",
            model="webrtc",
            language="de",
            prompt="Ziffern",
            temperature=0.5,
            response_format="text",
            extra_body={"hotwords": "Ziffern, Zahlen"},
        )
    warnings = json.loads(raw.headers["x-speechpipe-warnings"])
    codes = {item["code"] for item in warnings}
    assert codes == {"language_not_supported", "prompt_ignored", "temperature_ignored", "parameter_ignored"}
    assert raw.headers["x-speechpipe-bundle"] == "webrtc@1.0.0"
    assert raw.text.strip() == EXPECTED["digits"]["text"], "a bundle that was not preloaded works as well"


def test_channels_apart(client: openai.OpenAI) -> None:
    create = client.audio.transcriptions.create
    mixed = create(file=SAMPLES / "stereo.flac", model="default", response_format="verbose_json")
    apart = create(
        file=SAMPLES / "stereo.flac",
        model="default",
        response_format="verbose_json",
        extra_body={"multichannel": "true"},
    )
    right = create(file=SAMPLES / "stereo.flac", model="default", extra_body={"channel": "1"})
    segments = apart.model_extra["speechpipe"]["segments"]  # type: ignore[index]
    assert [item["channel"] for item in segments] == [0, 1]
    assert segments[1]["text"] == right.text
    assert mixed.duration == pytest.approx(apart.duration, abs=0.001)


def test_models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"default", "whisper-1", "webrtc", "fast", "scripted"} <= set(names)
    assert client.models.retrieve("fast").owned_by == "speechpipe"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "kind", "param", "code"),
    [
        ({"model": "no-such"}, openai.NotFoundError, "model", "model_not_found"),
        ({"response_format": "yaml"}, openai.BadRequestError, "response_format", "invalid_parameter"),
        ({"timestamp_granularities": ["word"]}, openai.BadRequestError, "timestamp_granularities", "invalid_parameter"),
        ({"temperature": 3}, openai.BadRequestError, "temperature", "invalid_parameter"),
        ({"include": ["logprobs"], "response_format": "text"}, openai.BadRequestError, "include", "invalid_parameter"),
        (
            {"stream": True, "extra_body": {"multichannel": "true"}},
            openai.BadRequestError,
            "stream",
            "invalid_parameter",
        ),
        ({"stream": True, "response_format": "srt"}, openai.BadRequestError, "stream", "invalid_parameter"),
        (
            {"chunking_strategy": {"type": "server_vad", "threshold": 7}},
            openai.BadRequestError,
            "vad.threshold",
            "invalid_parameter",
        ),
        ({"extra_body": {"vad": '{"treshold": 0.5}'}}, openai.BadRequestError, "vad.treshold", "invalid_parameter"),
        ({"extra_body": {"vad": "{broken"}}, openai.BadRequestError, "vad", "invalid_parameter"),
        ({"extra_body": {"colour": "red"}}, openai.BadRequestError, "colour", "unknown_parameter"),
        ({"extra_body": {"channel": "5"}}, openai.BadRequestError, "channel", "invalid_parameter"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_wrong_fields_raise_the_clients_own_errors(
    client: openai.OpenAI, fields: dict[str, object], kind: type[openai.APIStatusError], param: str, code: str
) -> None:
    with pytest.raises(kind) as caught:
        client.audio.transcriptions.create(**{"file": CLIP, "model": "default", **fields})  # type: ignore[call-overload]
    assert caught.value.param == param
    assert caught.value.code == code


def test_keys(start_server: StartServer) -> None:
    guarded = start_server(bundle="scripted", workers="1", api_keys='["sesame", "other"]')
    for key, good in (("sesame", True), ("other", True), ("sesam", False)):
        with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0) as made:
            if good:
                assert made.audio.transcriptions.create(file=SAMPLES / "digits.flac", model="default").text
                assert made.models.list().data
            else:
                with pytest.raises(openai.AuthenticationError) as caught:
                    made.audio.transcriptions.create(file=SAMPLES / "digits.flac", model="default")
                assert caught.value.code == "invalid_api_key"
    missing = httpx.get(f"{guarded.url}/v1/models")
    assert (missing.status_code, missing.json()["error"]["code"]) == (401, "missing_api_key")
    assert httpx.get(f"{guarded.url}/livez").status_code == 200, "probes need no key"


SLOW = "cost = 0.16"  # a sixth of real time


def test_a_full_server_says_when_to_come_back(start_server: StartServer, tmp_path: Path) -> None:
    full = start_server(**scripted_bundle(tmp_path, "slow", SLOW), workers="1", max_uploads="1")
    with openai.OpenAI(base_url=f"{full.url}/v1", api_key="none", max_retries=0) as made:
        with made.audio.transcriptions.create(file=CLIP, model="default", stream=True) as events:
            assert next(iter(events)).type == "transcript.text.delta"  # two more are seconds away
            assert httpx.get(f"{full.url}/readyz").status_code == 503
            with pytest.raises(openai.APIStatusError) as caught:
                made.audio.transcriptions.create(file=CLIP, model="default")
            assert caught.value.status_code == 503
            assert int(caught.value.response.headers["retry-after"]) >= 1
            assert caught.value.code == "overloaded"
            assert [event.type for event in events][-1] == "transcript.text.done", "the first did not notice"
        assert httpx.get(f"{full.url}/readyz").status_code == 200
        assert full.metric("speechpipe_requests_refused_total", cause="overloaded") == 1


@pytest.mark.long
def test_one_key_cannot_take_the_whole_server(start_server: StartServer, tmp_path: Path) -> None:
    slow = scripted_bundle(tmp_path, "slow", SLOW)
    shared = start_server(**slow, workers="1", max_uploads_per_key="1", api_keys='["a", "b"]')
    first = openai.OpenAI(base_url=f"{shared.url}/v1", api_key="a", max_retries=0)
    second = openai.OpenAI(base_url=f"{shared.url}/v1", api_key="b", max_retries=0)
    with first, second, first.audio.transcriptions.create(file=CLIP, model="default", stream=True) as events:
        next(iter(events))
        with pytest.raises(openai.RateLimitError) as caught:
            first.audio.transcriptions.create(file=CLIP, model="default")
        assert caught.value.code == "rate_limit_exceeded"
        assert second.audio.transcriptions.create(file=SAMPLES / "digits.flac", model="scripted").text


def test_a_recognizer_that_fails_never_reads_as_silence(start_server: StartServer, tmp_path: Path) -> None:
    failing = start_server(**scripted_bundle(tmp_path, "failing", "fail_above_level = 0.02"), workers="1")
    with openai.OpenAI(base_url=f"{failing.url}/v1", api_key="none", max_retries=0) as made:
        with pytest.raises(openai.InternalServerError) as caught:
            made.audio.transcriptions.create(file=CLIP, model="default")
        assert caught.value.code == "asr_failed"
        with (
            pytest.raises(openai.APIError, match="no segment could be transcribed"),
            made.audio.transcriptions.create(file=CLIP, model="default", stream=True) as events,
        ):
            list(events)
        silent = made.audio.transcriptions.create(file=SAMPLES / "silence.flac", model="default")
        assert silent.text == "", "silence is no failure"
    assert failing.metric("speechpipe_asr_transcripts_total", outcome="error") == 2 * len(SPANS)
    assert failing.metric("speechpipe_sessions_total", outcome="asr_failed") == 2
