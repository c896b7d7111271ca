"""The health report, feedback and alarms over HTTP, and the dashboard in a real browser."""

import json
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import preloaded
from tests.conftest import Server, StartServer
from tests.patience import PATIENCE_S
from tests.sounds import EXPECTED, SAMPLES

SPOKEN = [name for name, entry in EXPECTED.items() if entry.get("text")][:4]


def upload(server: Server, name: str) -> dict[str, Any]:
    with (SAMPLES / EXPECTED[name]["file"]).open("rb") as file:
        answer = httpx.post(
            f"{server.url}/v1/audio/transcriptions",
            files={"file": file},
            data={"model": "default", "response_format": "verbose_json"},
            timeout=PATIENCE_S,
        )
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def report(server: Server, **query: object) -> dict[str, Any]:
    answer = httpx.get(f"{server.url}/v1/health/report", params=query, timeout=PATIENCE_S)  # type: ignore[arg-type]
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def until(check: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def watched(start_server: StartServer) -> Server:
    server = start_server(bundle="scripted", workers="1", live_workers="1", keep_audio_hours="1")
    for name in SPOKEN:
        upload(server, name)
    until(lambda: report(server)["traffic"]["sessions"] == len(SPOKEN))
    return server


def test_the_report_says_what_went_through_each_stage(watched: Server) -> None:
    found = report(watched)
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert list(stages) == ["input", "vad", "asr", "people", "software", "system"]
    assert stages["vad"]["verdict"] == "not watched", "nothing compares it before there is a reference"
    metrics = {metric["name"]: metric for stage in found["stages"] for metric in stage["metrics"]}
    assert metrics["vad.trigger_rate"]["count"] == len(SPOKEN)
    assert metrics["vad.segment_s"]["count"] == found["traffic"]["utterances"] > 0
    assert metrics["asr.null_share"]["value"] == found["nulls"]["share"] == 0
    accounts = found["accounting"]
    assert accounts["balanced"] is True
    received = sum(EXPECTED[name]["duration_s"] for name in SPOKEN)
    assert accounts["received_s"] == pytest.approx(received, abs=0.1)
    assert accounts["in_utterances_s"] + accounts["dropped_by_vad_s"] == pytest.approx(accounts["received_s"], abs=0.01)
    (bundle,) = found["bundles"]
    assert bundle["bundle"].startswith("scripted@")
    assert bundle["share"] == 1


def test_filters_look_at_a_part(watched: Server) -> None:
    assert report(watched, channel="listen")["verdict"] == "no data"
    assert report(watched, channel="upload")["traffic"]["sessions"] == len(SPOKEN)
    assert report(watched, bundle="scripted")["traffic"]["sessions"] == len(SPOKEN)
    assert report(watched, tenant_class="enterprise")["traffic"]["sessions"] == 0


@pytest.mark.parametrize("query", [{"minutes": 0}, {"minutes": "soon"}, {"minutes": 1e12}], ids=str)
def test_a_period_that_is_none_is_refused(watched: Server, query: dict[str, object]) -> None:
    answer = httpx.get(f"{watched.url}/v1/health/report", params=query)  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "minutes"


def test_feedback_is_joined_to_its_utterance_and_its_stages(watched: Server) -> None:
    session = upload(watched, SPOKEN[0])["speechpipe"]["id"]
    url = f"{watched.url}/v1/feedback"
    body = {"kind": "redo", "utterance_id": f"{session}-0"}
    until(lambda: httpx.post(url, json=body).status_code == 201)
    correction = {"kind": "correction", "session_id": session, "text": "one two three four", "was": "one two too four"}
    answer = httpx.post(url, json=correction)
    assert answer.status_code == 201, answer.text
    assert answer.json()["value"] == pytest.approx(0.25)
    assert set(answer.json()["stages"]) == {"vad", "asr"}
    metrics = {metric["name"]: metric for stage in report(watched)["stages"] for metric in stage["metrics"]}
    units = metrics["people.redo_rate"]["count"]
    assert metrics["people.redo_rate"]["value"] == pytest.approx(1 / units)
    assert metrics["people.edit_share"]["value"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kind": "redo", "utterance_id": "nobody-0"}, 404),
        ({"kind": "redo"}, 400),
        ({"kind": "redo", "utterance_id": "a", "session_id": "b"}, 400),
        ({"kind": "applause", "session_id": "b"}, 400),
        ({"kind": "rating", "session_id": "b"}, 400),
        ({"kind": "rating", "session_id": "b", "value": 6}, 400),
        ({"kind": "correction", "session_id": "b"}, 400),
        ({"kind": "redo", "session_id": "b", "more": 1}, 400),
        ([], 400),
    ],
    ids=str,
)
def test_feedback_that_means_nothing_is_refused(watched: Server, body: object, status: int) -> None:
    answer = httpx.post(f"{watched.url}/v1/feedback", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_an_alarm_that_is_not_open_cannot_be_acknowledged(watched: Server) -> None:
    for kind in ("alarms", "incidents"):
        assert httpx.post(f"{watched.url}/v1/{kind}/none/acknowledge").status_code == 404
    alarms = httpx.get(f"{watched.url}/v1/alarms").json()["alarms"]
    assert {alarm["rule"] for alarm in alarms} <= {"reference"}, "nothing is compared yet, and nothing else rings"


def test_one_file_to_send_needs_nothing_else(watched: Server) -> None:
    page = httpx.get(f"{watched.url}/v1/health/report", params={"format": "html"}).text
    assert "<svg" in page
    assert "<style>" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.long
def test_the_command_line_says_the_same_of_server_and_store(watched: Server, tmp_path: Path) -> None:
    def speechpipe(*arguments: str) -> subprocess.CompletedProcess[str]:
        return preloaded.run(*arguments, text=True, cwd=tmp_path)

    live = json.loads(speechpipe("report", "--url", watched.url, "--format", "json").stdout)
    store = str(watched.state / "speechpipe.db")
    stored = json.loads(speechpipe("report", "--store", store, "--format", "json").stdout)
    assert live["traffic"] == stored["traffic"]
    assert live["nulls"] == stored["nulls"]
    text = speechpipe("report", "--store", store).stdout
    assert "VAD trigger rate" in text
    missing = speechpipe("report", "--store", "nowhere.db")
    assert missing.returncode == 2
    assert "nowhere.db" in missing.stderr
    old = json.loads(speechpipe("report", "--store", store, "--until", "2020-01-01T00:00", "--format", "json").stdout)
    assert old["verdict"] == "no data"
    nothing = speechpipe("reference", "set", "--store", store, "--last", "1h", "--channel", "nonsense")
    assert nothing.returncode == 2
    assert "no traffic in that time" in nothing.stderr
    assert json.loads(speechpipe("reference", "show", "--store", store, "--json").stdout) == []
    proposed = speechpipe("reference", "set", "--store", store, "--last", "1h")
    assert "proposed" in proposed.stdout
    shown = json.loads(speechpipe("reference", "show", "--store", store, "--json").stdout)
    numbers = [str(reference["id"]) for reference in shown]
    approved = speechpipe("reference", "approve", *numbers, "--store", store)
    assert "pinned" in approved.stdout
    assert "fewer than 100 sessions" in approved.stderr
    assert speechpipe("reference", "approve", "99", "--store", store).returncode == 2
    compared = json.loads(speechpipe("report", "--store", store, "--format", "json").stdout)
    metrics = {metric["name"]: metric for stage in compared["stages"] for metric in stage["metrics"]}
    assert metrics["vad.segment_s"]["reference"] is not None
    assert "vad.trigger_rate" in speechpipe("metrics", "value", "--store", store).stdout


def test_reports_ask_for_a_key_where_there_is_one(start_server: StartServer) -> None:
    locked = start_server(bundle="scripted", workers="1", live_workers="1", api_keys='["sesame"]')
    for path in ("/v1/health/report", "/v1/health/page", "/v1/alarms"):
        assert httpx.get(locked.url + path).status_code == 401
        assert httpx.get(locked.url + path, headers={"Authorization": "Bearer sesame"}).status_code == 200
    assert httpx.post(locked.url + "/v1/feedback", json={"kind": "redo", "session_id": "s"}).status_code == 401


def test_a_store_that_is_gone_stops_no_transcript_and_is_said(start_server: StartServer, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    broken = start_server(bundle="scripted", workers="1", live_workers="1", store_url=f"sqlite:///{blocked}/records.db")
    assert upload(broken, SPOKEN[0])["text"]
    answer = httpx.get(f"{broken.url}/v1/health/report")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "store_unavailable"
    until(lambda: broken.metric("speechpipe_store_failing") == 1)
    assert str(tmp_path) not in answer.text
    assert broken.metric("speechpipe_records_lost_total") == 0
    blocked.unlink()
    until(lambda: report(broken)["traffic"]["sessions"] == 1)


def test_a_full_disk_is_said_and_its_records_wait(start_server: StartServer) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1")
    session = upload(server, SPOKEN[0])
    until(lambda: report(server)["traffic"]["sessions"] == 1)
    unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    (log,) = server.state.rglob("*-wal")  # SQLite writes at its end: it may not grow any more, nor any file beyond it
    full = log.stat().st_size
    assert full > (SAMPLES / EXPECTED[SPOKEN[1]]["file"]).stat().st_size, "an upload that fits into memory"
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (full, unlimited[1]))
    assert upload(server, SPOKEN[1])["text"]
    until(lambda: server.metric("speechpipe_store_failing") == 1)
    assert report(server)["server"]["store_failure"]
    large = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        files={"file": ("silence.wav", b"RIFF" + bytes(3_000_000))},
        data={"model": "default"},
        timeout=PATIENCE_S,
    )
    assert (large.status_code, large.json()["error"]["code"]) == (507, "no_space")
    until(lambda: any("no_space" in line for line in server.log))
    (line,) = [line for line in server.log if "no_space" in line]
    assert "WARNING" in line
    assert "unexpected error" not in "".join(server.log), "what the machine lacks is no defect"
    body = {"kind": "redo", "session_id": session["speechpipe"]["id"]}
    refused = httpx.post(f"{server.url}/v1/feedback", json=body, timeout=PATIENCE_S)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "store_unavailable"
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
    until(lambda: httpx.post(f"{server.url}/v1/feedback", json=body, timeout=PATIENCE_S).status_code == 201)
    upload(server, SPOKEN[2])
    until(lambda: report(server)["traffic"]["sessions"] >= 3)  # the one during the fault too
    until(lambda: not report(server)["server"]["store_failure"])
    assert server.metric("speechpipe_records_lost_total") == 0


def test_links_of_alarms_lead_to_the_runbook(server: Server) -> None:
    page = httpx.get(f"{server.url}/runbook")
    assert page.status_code == 200
    assert page.headers["content-security-policy"]
    for metric in ("asr.null_share", "system.records_lost"):
        assert f'id="{metric.replace(".", "")}"' in page.text


def test_what_the_server_keeps_is_for_its_user_only(watched: Server) -> None:
    until(lambda: list(watched.state.rglob("*.flac")) != [] and list(watched.state.glob("*.db")) != [])
    kept = [path for path in watched.state.rglob("*") if path.stat().st_mode & 0o077]
    assert kept == []


@pytest.mark.long
def test_a_store_that_is_deleted_under_the_server_is_said_and_made_anew(start_server: StartServer) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1")
    upload(server, SPOKEN[0])
    until(lambda: report(server)["traffic"]["sessions"] == 1)
    for path in server.state.glob("*.db*"):
        path.unlink()
    upload(server, SPOKEN[1])
    until(lambda: server.metric("speechpipe_records_lost_total", cause="store_replaced") > 0)
    until(lambda: report(server)["traffic"]["sessions"] == 1)  # the second
    until(lambda: (report(server)["records_lost"] or 0) > 0)
    assert report(server)["verdict"] == "failing"
    assert httpx.get(f"{server.url}/readyz").status_code == 200
