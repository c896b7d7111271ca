"""The server's life: it is alive before it is ready, it loses nothing, it leaves cleanly."""

import os
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from speechpipe.cascade.evaluation.scores import word_errors
from tests.conftest import Server, StartServer
from tests.patience import PATIENCE_S
from tests.scripted_bundles import scripted_bundle
from tests.sounds import SAMPLES, plain

URL = "/v1/audio/transcriptions"


def post(server: Server, name: str, model: str = "default") -> httpx.Response:
    data = (SAMPLES / f"{name}.flac").read_bytes()
    return httpx.post(server.url + URL, data={"model": model}, files={"file": ("a.flac", data)}, timeout=PATIENCE_S)


@pytest.mark.long
def test_alive_at_once_ready_when_warm(start_server: StartServer) -> None:
    server = start_server(wait=False, workers="1")
    assert httpx.get(f"{server.url}/livez").status_code == 200
    seen = set()
    end = time.monotonic() + PATIENCE_S
    while (answer := httpx.get(f"{server.url}/readyz")).status_code != 200:
        assert answer.status_code == 503
        assert answer.json()["reasons"]
        early = post(server, "digits")
        seen.add(early.status_code)
        if early.status_code == 503:
            assert early.headers["retry-after"]
        assert time.monotonic() < end
    assert seen <= {503, 200}
    assert plain(post(server, "digits").json()["text"]) == "one two three four five six seven eight nine zero"


def test_sigterm_lets_running_uploads_finish(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(**scripted_bundle(tmp_path, "slow", "cost = 0.2"), drain_timeout_s="900")
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(post(server, "two_speakers")))
    thread.start()
    while server.metric("speechpipe_uploads_in_progress") < 1:
        time.sleep(0.01)
    workers = server.workers()
    server.process.send_signal(signal.SIGTERM)
    thread.join(PATIENCE_S)
    assert answers[0].status_code == 200
    assert answers[0].json()["text"]
    assert server.process.wait(PATIENCE_S) in (0, -signal.SIGTERM)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in workers)
    # Records of what ran were written before the end.
    with closing(sqlite3.connect(server.state / "speechpipe.db")) as connection:
        rows = connection.execute("select kind, outcome from records where kind != 'system' order by kind").fetchall()
        (journal,) = connection.execute("pragma journal_mode").fetchone()
    assert rows == [("session", "ok")] + [("unit", "ok")] * 2
    assert journal == "wal"


@pytest.mark.long
def test_killed_workers_cost_nobody_an_answer(start_server: StartServer) -> None:
    server = start_server(workers="2")
    expected = post(server, "long_pauses").json()["text"]
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(post(server, "long_pauses"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    while server.metric("speechpipe_workers_busy") < 2:
        time.sleep(0.01)
    for process in server.workers():
        os.kill(process.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [answer.status_code for answer in answers] == [200] * 3
    for answer in answers:  # which segments share a decode changes a word here and there, and may lose none
        assert word_errors(expected, answer.json()["text"]).edits <= 2
    assert server.metric("speechpipe_worker_restarts_total", pool="files", cause="crash") == 2
    assert server.metric("speechpipe_asr_refed_segments_total") >= 1


def test_workers_leave_when_the_server_is_killed(start_server: StartServer) -> None:
    server = start_server(workers="2", live_workers="2", bundle="scripted")
    workers = server.workers()
    assert len(workers) == 4  # two for files, two for live audio
    server.process.kill()
    server.process.wait(PATIENCE_S)
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert not alive, "orphans"


def test_records_and_metrics_tell_each_stage(start_server: StartServer) -> None:
    server = start_server(bundle="scripted")
    for name in ("two_speakers", "silence", "noise"):
        assert post(server, name).status_code == 200
    assert server.metric("speechpipe_sessions_total", outcome="ok", bundle="scripted", bundle_version="1.0.0") == 3
    assert server.metric("speechpipe_vad_segments_total") == 2
    assert server.metric("speechpipe_vad_no_trigger_sessions_total") == 2
    assert server.metric("speechpipe_asr_transcripts_total", outcome="ok") == 2
    for name in (
        "input_decode_seconds",
        "vad_triggers_per_minute",
        "vad_speech_ratio",
        "vad_segment_seconds",
        "asr_queue_seconds",
        "asr_wall_seconds",
    ):
        assert server.metric(f"speechpipe_{name}_count") > 0, name
    assert server.metric("speechpipe_queue_depth") == 0
    assert server.metric("speechpipe_workers_ready", pool="files") == 1
    assert server.metric("speechpipe_worker_rss_bytes") > 20e6


def test_a_recognizer_that_cannot_load_ends_the_server_and_says_why(start_server: StartServer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "card.toml").write_text(
        'kind = "asr"\nname = "broken"\nversion = "1"\nimplementation = "pocketsphinx"\ndescription = "x"\n'
        'languages = ["en"]\n[options.lm]\ndefault = "/nowhere.lm"\n'
    )
    (tmp_path / "bundle.toml").write_text(
        'kind = "bundle"\nname = "broken"\nversion = "1"\ndescription = "x"\nlanguages = ["en"]\n'
        '[vad]\ncard = "energy"\n[asr]\ncard = "broken"\n'
    )
    server = start_server(wait=False, bundle="broken", models_dir=str(tmp_path), workers="1")
    assert server.process.wait(PATIENCE_S) == 1
    end = time.monotonic() + PATIENCE_S
    while "could not start" not in "".join(server.log):
        assert time.monotonic() < end, "".join(server.log)
        time.sleep(0.05)


def test_a_broken_store_slows_nobody(start_server: StartServer) -> None:
    server = start_server(workers="1", bundle="scripted", store_url="sqlite:////proc/nowhere/records.db")
    for _ in range(3):
        assert post(server, "digits").status_code == 200
    end = time.monotonic() + PATIENCE_S
    while server.metric("speechpipe_store_failing") != 1 or server.metric("speechpipe_records_waiting") < 6:
        assert time.monotonic() < end
        time.sleep(0.1)
