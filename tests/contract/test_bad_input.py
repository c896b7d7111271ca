"""Every kind of bad upload: its documented status, an OpenAI-shaped body, a counted cause, and nothing else suffers."""

import io
import socket
import struct
import time
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import Server
from tests.containers import Track, written
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES, Made, encoded, encoded_by_ffmpeg, sample, tone

URL = "/v1/audio/transcriptions"
SPEECH = sample("sentence_slt")


def post(server: Server, data: bytes, name: str = "a.wav", **fields: Any) -> httpx.Response:
    body = {"model": "default", "response_format": "verbose_json", **fields}
    return httpx.post(server.url + URL, data=body, files={"file": (name, data)}, timeout=PATIENCE_S)


def warnings(response: httpx.Response) -> set[str]:
    assert response.status_code == 200, response.text
    return {item["code"] for item in response.json()["speechpipe"]["warnings"]}


def refused(server: Server, response: httpx.Response, status: int, code: str, before: float = 0.0) -> None:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"]
    assert server.metric("speechpipe_requests_refused_total", cause=code) > before


@pytest.fixture(scope="module")
def good(server: Server) -> str:
    """What the good file says; asked again at the end, it must say the same."""
    return str(post(server, encoded(SPEECH)).json()["text"])


@pytest.mark.parametrize(
    ("data", "name", "status", "code"),
    [
        (b"", "a.wav", 400, "empty_file"),
        (encoded(np.zeros(0, np.float32)), "a.wav", 400, "no_samples"),
        (b"this is a text about audio, renamed\n" * 50, "speech.wav", 415, "undecodable_audio"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "a.mp3", 415, "undecodable_audio"),
        (b"RIFF", "a.wav", 415, "undecodable_audio"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nfile:///etc/passwd\n", "a.m3u8", 415, "undecodable_audio"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "a.wav", 415, "undecodable_audio"),
        (encoded(tone(1.0, rate=2000), rate=2000), "a.wav", 415, "unsupported_sample_rate"),
    ],
    ids=["empty", "no-samples", "text", "picture", "four-bytes", "playlist", "concat", "2-kHz"],
)
def test_what_is_no_audio(server: Server, data: bytes, name: str, status: int, code: str) -> None:
    before = server.metric("speechpipe_requests_refused_total", cause=code)
    refused(server, post(server, data, name), status, code, before)


FORMATS = Made(
    {
        "wav": lambda: encoded(SPEECH),
        "flac": lambda: encoded(SPEECH, form="FLAC"),
        "ogg": lambda: encoded(SPEECH, form="OGG"),
        "mp3": lambda: encoded(SPEECH, form="MP3"),
        "aiff": lambda: encoded(SPEECH, form="AIFF"),
        "m4a": lambda: encoded_by_ffmpeg(SPEECH, "ipod", "aac"),
        "mp4": lambda: encoded_by_ffmpeg(SPEECH, "mp4", "aac"),
        "webm": lambda: encoded_by_ffmpeg(SPEECH, "webm", "libopus"),
        "aac": lambda: encoded_by_ffmpeg(SPEECH, "adts", "aac"),
        "wma": lambda: encoded_by_ffmpeg(SPEECH, "asf", "wmav2"),
        "opus": lambda: encoded_by_ffmpeg(SPEECH, "ogg", "libopus"),
    }
)


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_format_is_read_whatever_its_name_says(server: Server, form: str) -> None:
    for name in (f"a.{form}", "recording.txt"):
        answer = post(server, FORMATS[form], name).json()
        assert answer["duration"] == pytest.approx(len(SPEECH) / 16_000, abs=0.15)
        assert answer["speechpipe"]["accounting"]["in_utterances"] > 16_000
        assert answer["speechpipe"]["warnings"] == []


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_truncated_files_give_what_is_there_or_a_clear_no(server: Server, form: str) -> None:
    data = FORMATS[form]
    response = post(server, data[: len(data) * 2 // 3])
    if form in ("m4a", "mp4"):  # the index stands at the end, without it nothing can be read
        refused(server, response, 415, "undecodable_audio")
        return
    answer = response.json()
    assert response.status_code == 200, response.text
    assert 0.5 * len(SPEECH) / 16_000 < answer["duration"] < 0.8 * len(SPEECH) / 16_000
    if form not in ("aac", "opus"):  # streams without a length, cut between two packets
        assert warnings(response) & {"audio_truncated", "audio_damaged"}, "the client is told"


def test_a_wav_header_that_says_too_much_or_nothing(server: Server) -> None:
    honest = encoded(SPEECH)
    at = honest.index(b"data") + 4
    for lie in (0xFFFFFFFF, 0x7FFFFFFF, 0):
        lying = honest[:at] + struct.pack("<I", lie) + honest[at + 4 :]
        answer = post(server, lying).json()
        assert answer["duration"] == pytest.approx(len(SPEECH) / 16_000, abs=0.05), lie
    less = post(server, honest[:at] + struct.pack("<I", 2 * 16_000) + honest[at + 4 :])
    assert less.json()["duration"] == pytest.approx(len(SPEECH) / 16_000, abs=0.01)
    assert warnings(less) == {"header_too_short"}
    assert less.json()["speechpipe"]["input"]["claimed_s"] == pytest.approx(1.0)


def test_files_end_to_end_are_one_answer_and_every_sample_is_accounted_for(server: Server) -> None:
    second = sample("sentence_awb")
    response = post(server, encoded(SPEECH, form="MP3") + encoded(second, form="MP3"))
    assert warnings(response) == {"several_recordings"}
    answer = response.json()
    seconds = (len(SPEECH) + len(second)) / 16_000
    assert answer["duration"] == pytest.approx(seconds, abs=0.1)
    spoken = sum(item["end"] - item["start"] for item in answer["segments"])
    apart = [post(server, encoded(audio)).json()["segments"] for audio in (SPEECH, second)]
    assert spoken > 0.9 * sum(item["end"] - item["start"] for items in apart for item in items)
    assert answer["segments"][-1]["end"] == pytest.approx(len(SPEECH) / 16_000 + apart[1][-1]["end"], abs=0.15)
    accounting = answer["speechpipe"]["accounting"]
    parts = ("in_utterances", "dropped_by_vad", "dropped_by_overload", "pending")
    assert accounting["received"] == sum(accounting[part] for part in parts)
    assert accounting["received"] == pytest.approx(seconds * 16_000, abs=1600)


def test_captions_stand_where_the_picture_is(server: Server) -> None:
    film = written("matroska", "aac", Track(SPEECH, starts_s=3.0), video_s=8.0)
    early = post(server, encoded(SPEECH)).json()
    answer = post(server, film, **{"timestamp_granularities[]": "word"}).json()
    assert {item["code"] for item in answer["speechpipe"]["warnings"]} == {"gap_filled"}
    late = answer["speechpipe"]["segments"][0]["start"] - early["speechpipe"]["segments"][0]["start"]
    assert late == pytest.approx(3.0, abs=0.15)
    assert answer["words"][0]["start"] > 3.0
    captions = post(server, film, response_format="srt").text
    assert captions.splitlines()[1].startswith("00:00:03,")
    accounting = answer["speechpipe"]["accounting"]
    assert accounting["received"] == round(answer["duration"] * 16_000)


def test_the_audio_track_can_be_chosen(server: Server) -> None:
    two = written("mp4", "aac", Track(0 * SPEECH), Track(SPEECH))
    first = post(server, two)
    assert first.json()["text"] == ""
    assert warnings(first) == {"audio_tracks", "very_quiet"}
    second = post(server, two, track="1")
    assert len(second.json()["segments"]) == 1
    assert warnings(second) == set()
    assert second.json()["speechpipe"]["input"]["tracks"] == 2
    refused(server, post(server, two, track="2"), 400, "invalid_parameter")
    assert "has 2" in post(server, two, track="2").json()["error"]["message"]
    refused(server, post(server, two, track="-1"), 400, "invalid_parameter")


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_wav_encoding(server: Server, subtype: str) -> None:
    answer = post(server, encoded(SPEECH, subtype=subtype)).json()
    assert answer["speechpipe"]["input"]["codec"] == subtype
    assert answer["speechpipe"]["input"]["level_dbfs"] == pytest.approx(-23.7, abs=0.7)
    assert len(answer["segments"]) == 1


@pytest.mark.parametrize("rate", [4000, 8000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_every_rate(server: Server, rate: int) -> None:
    import soxr

    data = encoded(soxr.resample(SPEECH, 16_000, rate), rate)
    answer = post(server, data).json()
    assert answer["duration"] == pytest.approx(len(SPEECH) / 16_000, abs=0.01)
    assert len(answer["segments"]) == 1


def test_eight_channels(server: Server) -> None:
    eight = np.stack([SPEECH if index == 5 else np.zeros_like(SPEECH) for index in range(8)], axis=1)
    mixed = post(server, encoded(eight)).json()
    assert mixed["speechpipe"]["input"]["channels"] == 8
    assert len(mixed["segments"]) == 1
    assert post(server, encoded(eight), channel="5").json()["text"] == post(server, encoded(SPEECH)).json()["text"]
    assert post(server, encoded(eight), channel="4").json()["text"] == ""


def test_channels_that_cancel_are_noticed_and_heard(server: Server) -> None:
    response = post(server, (SAMPLES / "opposed.flac").read_bytes())
    assert "phase_cancellation" in warnings(response)
    assert len(response.json()["segments"]) == 1


def test_nan_and_infinity_do_not_poison_what_follows(server: Server) -> None:
    broken = SPEECH.copy()
    broken[100:200], broken[300], broken[400] = np.nan, np.inf, -np.inf
    response = post(server, encoded(np.concatenate([broken, SPEECH]), subtype="FLOAT"))
    assert "non_finite_samples" in warnings(response)
    assert response.json()["speechpipe"]["accounting"]["in_utterances"] > len(SPEECH)


def test_samples_beyond_full_scale(server: Server) -> None:
    assert "over_full_scale" in warnings(post(server, encoded(SPEECH * 20, subtype="FLOAT")))


def test_hours_in_a_small_file_are_refused_before_they_are_decoded(server: Server) -> None:
    """A file of a few kilobytes that decodes to two hours: silence compresses to nothing."""
    buffer = io.BytesIO()
    import soundfile

    with soundfile.SoundFile(buffer, "w", 8000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(2 * 60):
            file.write(np.zeros(60 * 8000, np.int16))
    assert len(buffer.getvalue()) < 2**21
    refused(server, post(server, buffer.getvalue()), 413, "audio_too_long")
    lying = bytearray(buffer.getvalue())
    lying[21:26] = bytes([lying[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO: the number of samples is not known
    refused(server, post(server, bytes(lying)), 413, "audio_too_long")
    assert server.metric("speechpipe_uploads_in_progress") == 0


def test_too_many_bytes(server: Server) -> None:
    large = bytes(27 * 2**20)
    refused(server, post(server, large), 413, "upload_too_large")

    def chunks() -> Any:
        boundary = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        yield boundary
        for _ in range(27):
            yield bytes(2**20)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = httpx.post(server.url + URL, content=chunks(), headers=headers, timeout=PATIENCE_S)
    refused(server, response, 413, "upload_too_large")


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "a\x00b.wav", "%2e%2e%2f.wav", "x" * 5000 + ".wav", "'; rm -rf / #.wav", "ﷺ🎙️.wav", "-rf", ""],
    ids=range(8),
)
def test_hostile_file_names(server: Server, good: str, name: str) -> None:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    model = b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ndefault\r\n--b--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = httpx.post(server.url + URL, content=head + encoded(SPEECH) + model, headers=headers, timeout=PATIENCE_S)
    assert response.status_code in (200, 400), response.text
    if response.status_code == 200:
        assert response.json()["text"] == good


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ([("model", "default"), ("model", "fast")], "repeated_parameter", "model"),
        ([("model", "default"), ("vad[threshold]", "0.4"), ("vad[threshold]", "0.5")], "repeated_parameter", "vad"),
        ([], "missing_parameter", "model"),
        ([("model", "")], "invalid_parameter", "model"),
        ([("model", "default"), ("stream", "perhaps")], "invalid_parameter", "stream"),
        ([("model", "default"), ("temperature", "NaN")], "invalid_parameter", "temperature"),
        ([("model", "default"), ("file", "not a file")], "unknown_parameter", "file"),
        ([("model", "default"), ("vad", "[1]")], "invalid_parameter", "vad"),
        ([("model", "default"), ("channel", "-1")], "invalid_parameter", "channel"),
        ([("model", "default"), ("channel", "0"), ("multichannel", "true")], "invalid_parameter", "channel"),
    ],
)
def test_wrong_and_repeated_fields(server: Server, fields: list[tuple[str, str]], code: str, param: str) -> None:
    parts: list[tuple[str, Any]] = [("file", ("a.wav", encoded(SPEECH)))]
    parts += [(key, (None, value)) for key, value in fields]
    response = httpx.post(server.url + URL, files=parts, timeout=PATIENCE_S)
    refused(server, response, 400, code)
    assert response.json()["error"]["param"] == param


def test_a_file_that_was_cut_before_its_first_sample_says_so(server: Server) -> None:
    whole = encoded_by_ffmpeg(sample("sentence_slt")[:8000], "wv", "wavpack", rate=16_000)
    assert whole.count(b"wvpk") == 1, "one block"
    answer = post(server, whole[: len(whole) // 2], "a.wv")
    refused(server, answer, 400, "no_samples")
    assert "the file was cut" in answer.json()["error"]["message"]


def test_no_file_and_no_multipart(server: Server) -> None:
    missing = httpx.post(server.url + URL, files={"model": (None, "default")})
    refused(server, missing, 400, "missing_file")
    refused(server, httpx.post(server.url + URL, json={"model": "default"}), 400, "not_multipart")
    two = [("file", ("a.wav", b"1")), ("file", ("b.wav", b"2"))]
    refused(server, httpx.post(server.url + URL, files=two), 400, "broken_multipart")
    headers = {"content-type": "multipart/form-data"}
    refused(server, httpx.post(server.url + URL, content=b"x", headers=headers), 400, "broken_multipart")
    headers = {"content-type": "multipart/form-data; boundary=b"}
    refused(server, httpx.post(server.url + URL, content=b"--b\r\nrubbish", headers=headers), 400, "broken_multipart")
    refused(server, httpx.post(server.url + URL, content=b"--b--\r\n", headers=headers), 400, "missing_file")


def test_unknown_paths_and_methods_have_the_same_shape(server: Server) -> None:
    refused(server, httpx.get(f"{server.url}/v1/nothing"), 404, "not_found")
    refused(server, httpx.get(server.url + URL), 405, "method_not_allowed")


def test_a_client_that_vanishes_in_mid_upload_is_counted(server: Server) -> None:
    before = server.metric("speechpipe_requests_refused_total", cause="client_gone_in_upload")
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as connection:
        connection.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF'
        )
    _until(lambda: server.metric("speechpipe_requests_refused_total", cause="client_gone_in_upload") > before)


@pytest.mark.long
def test_a_client_that_vanishes_while_it_waits_stops_the_work(server: Server) -> None:
    before = server.metric("speechpipe_sessions_total", outcome="client_gone")
    long = encoded(np.tile(sample("long_pauses"), 20))
    with pytest.raises(httpx.TimeoutException):
        httpx.post(
            server.url + URL,
            data={"model": "webrtc", "vad[min_silence_s]": "0.3"},
            files={"file": ("a.wav", long)},
            timeout=httpx.Timeout(10, read=1.0),
        )
    _until(lambda: server.metric("speechpipe_sessions_total", outcome="client_gone") > before)
    _until(lambda: server.metric("speechpipe_workers_busy") == 0)
    assert server.metric("speechpipe_uploads_in_progress") == 0


def test_a_stream_whose_reader_leaves_gives_back_its_place(server: Server) -> None:
    long = encoded(np.tile(sample("long_pauses"), 20))
    form = {"model": "webrtc", "stream": "true"}
    with httpx.stream(
        "POST", server.url + URL, data=form, files={"file": ("a.wav", long)}, timeout=PATIENCE_S
    ) as response:
        next(response.iter_lines())
    _until(lambda: server.metric("speechpipe_uploads_in_progress") == 0)
    _until(lambda: server.metric("speechpipe_workers_busy") == 0)


def test_after_all_this_the_server_answers_as_before(server: Server, good: str) -> None:
    assert post(server, encoded(SPEECH)).json()["text"] == good
    assert len(server.workers()) == 4  # two for files, two for live audio
    assert server.metric("speechpipe_worker_restarts_total") == 0
    assert server.metric("speechpipe_requests_refused_total", cause="internal_error") == 0
    assert server.metric("speechpipe_accounting_errors_total") == 0


def _until(condition: Any, seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)
