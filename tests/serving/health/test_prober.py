"""Golden probes, kept audio and replays on a service that runs."""

import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechpipe.app import compose
from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.evaluation.manifest import Clip, read_manifest
from speechpipe.cascade.request import SessionRequest
from speechpipe.config import Settings
from speechpipe.errors import BadInput, InvalidParameter
from speechpipe.foundation.storage.record import Record
from speechpipe.serving.health.prober import Prober
from speechpipe.serving.health.replay import against_record, hear, swapped
from speechpipe.serving.routing import RouteSnapshot
from speechpipe.serving.service import Service
from speechpipe.serving.telemetry.records import Context, utterance_record
from speechpipe.types import Bundle, Utterance
from tests.foundation.storage.test_store import eventually
from tests.sounds import SAMPLES

CLIPS = read_manifest(SAMPLES / "manifest.jsonl")[:4]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    settings = Settings(bundle="scripted", workers=1, state_dir=tmp_path, keep_audio_hours=1.0)
    with compose(settings) as service:
        yield service


def probed(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    found: list[Record] = []
    monkeypatch.setattr(service.records, "emit", found.append)
    Prober(service).round(CLIPS)
    return found


def test_probes_are_pinned_once_and_then_compared_stage_by_stage(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert probed(service, monkeypatch) == [], "the first round pins"
    pinned = json.loads((tmp_path / "probes" / f"{service.engine.champion.id}.json").read_text())
    assert set(pinned) == {clip.name for clip in CLIPS}
    well = probed(service, monkeypatch)
    assert [record.outcome for record in well] == ["ok"] * len(CLIPS)
    healthy = service.engine.champion
    short = service.engine.catalogue.changed(healthy, {"vad.pre_roll_s": 0.0, "vad.padding_s": 0.0})
    service.engine.router.route_by(RouteSnapshot(short))
    cut = probed(service, monkeypatch)
    assert {record.measures["vad.probe_differs"] for record in cut} == {1.0}
    assert {record.measures["asr.probe_differs"] for record in cut} == {0.0}, "judged on its golden input"
    service.engine.router.route_by(
        RouteSnapshot(service.engine.catalogue.changed(healthy, {"asr.empty_below_level": 2.0}))
    )
    deaf = probed(service, monkeypatch)
    assert {record.measures["vad.probe_differs"] for record in deaf} == {0.0}
    assert {record.measures["asr.probe_differs"] for record in deaf} == {1.0}
    assert {record.outcome for record in deaf} == {"differs"}


def test_a_probe_that_is_lost_says_nothing_of_the_recognizer(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    probed(service, monkeypatch)
    broken = service.engine.catalogue.changed(service.engine.champion, {"asr.crash_above_level": 0.0})
    service.engine.router.route_by(RouteSnapshot(broken))
    lost = probed(service, monkeypatch)
    assert {record.outcome for record in lost} == {"worker_crash"}
    assert all("asr.probe_differs" not in record.measures for record in lost)


def test_a_broken_file_of_pins_is_said_and_made_anew(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    probed(service, monkeypatch)
    path = tmp_path / "probes" / f"{service.engine.champion.id}.json"
    path.write_text("{")
    assert probed(service, monkeypatch) == []
    assert "are pinned again" in caplog.text
    assert len(probed(service, monkeypatch)) == len(CLIPS)


def test_audio_is_kept_as_it_was_fed_and_not_for_ever(service: Service, tmp_path: Path) -> None:
    asked = SessionRequest(DecodeOptions(offline=True), session_id="abc")
    session = service.engine.session(service.engine.champion, asked)
    session.feed(CLIPS[0].samples)
    session.finish()
    path = service.engine.kept_audio.path("abc")
    assert path is not None
    np.testing.assert_allclose(soundfile.read(path)[0], CLIPS[0].samples, atol=1e-4)
    assert [stat.S_IMODE(found.stat().st_mode) for found in (path, path.parent)] == [0o600, 0o700]
    os.utime(path, (0, 0))
    service.engine.kept_audio.sweep()
    assert service.engine.kept_audio.path("abc") is None
    assert service.engine.kept_audio.open("../up") is None
    assert service.engine.kept_audio.path("../up") is None


def test_kept_audio_is_deleted_in_time_though_nobody_comes(tmp_path: Path) -> None:
    settings = Settings(bundle="scripted", workers=1, state_dir=tmp_path, keep_audio_hours=2 / 3600)
    with compose(settings) as service:
        keeping = service.engine.kept_audio.open("abc")
        assert keeping is not None
        keeping.feed(CLIPS[0].samples)
        keeping.close()
        eventually(lambda: service.engine.kept_audio.path("abc") is None)


def test_probes_go_on_after_an_unforeseen_exception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(bundle="scripted", workers=1, state_dir=tmp_path, probes=SAMPLES / "manifest.jsonl")
    with compose(settings) as service:
        probing = Prober(service)
        (task,) = [task for task in service.tasks if task.name == "probes"]
        rounds: list[int] = []

        def round_(clips: Sequence[Clip]) -> None:
            rounds.append(len(clips))
            if len(rounds) < 3:
                raise RuntimeError("unforeseen")

        monkeypatch.setattr(probing, "round", round_)
        probing.start()
        eventually(lambda: len(rounds) == 3)
        eventually(lambda: not task.status.failing)
        assert task.status.failures >= 2
        assert set(rounds) == {len((SAMPLES / "manifest.jsonl").read_text().splitlines())}
        assert task.status.alive
        probing.close()


@pytest.mark.parametrize("text", ["{", "", '{"audio": "absent.flac"}'])
def test_probes_that_cannot_be_read_are_refused_before_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "probes.jsonl").write_text(text)
    service = compose(Settings(bundle="scripted", state_dir=tmp_path, probes=tmp_path / "probes.jsonl"))
    with pytest.raises(InvalidParameter, match=r"probes\.jsonl") as caught:
        Prober(service)
    assert caught.value.param == "probes"


def test_nothing_is_kept_unless_somebody_asks(tmp_path: Path) -> None:
    service = compose(Settings(bundle="scripted", state_dir=tmp_path))
    assert service.engine.kept_audio.open("abc") is None
    assert not (tmp_path / "audio").exists()


def quiet(clips: list[Clip]) -> list[Clip]:
    return [Clip(clip.name, np.zeros_like(clip.samples), clip.text, clip.speaker) for clip in clips]


def test_a_swap_replay_names_what_was_swapped(service: Service) -> None:
    bundle = service.engine.champion
    deaf = service.engine.catalogue.changed(bundle, {"asr.empty_below_level": 2.0})
    cut = service.engine.catalogue.changed(
        bundle, {"vad.min_silence_s": 0.03, "vad.padding_s": 0.0, "vad.pre_roll_s": 0.0}
    )

    def texts(_: Clip, utterances: Sequence[Utterance]) -> float:
        return float(sum(len(one.transcript.text) for one in utterances))

    def blamed(incident: list[Clip], now: Bundle) -> str:
        found = swapped(service, CLIPS, incident, bundle, now, texts)
        assert sum(share.value for share in found.shares) == pytest.approx(found.now - found.then)
        return found.blamed

    assert blamed(CLIPS, bundle) == "none"
    assert blamed(CLIPS, deaf) == "asr"
    assert blamed(CLIPS, cut) == "vad"
    assert blamed(quiet(CLIPS), bundle) == "input"


def test_a_replay_against_the_record_finds_what_the_model_never_said(service: Service) -> None:
    sessions = []
    for clip in CLIPS:
        context = Context(clip.name, "upload", service.engine.champion)
        heard = hear(service, service.engine.champion, clip)
        sessions.append((clip, [utterance_record(context, one, 0.0) for one in heard]))
    assert against_record(service, service.engine.champion, sessions).blamed == "none"
    swapped_answers = [(clip, sessions[index - 1][1]) for index, (clip, _) in enumerate(sessions)]
    found = against_record(service, service.engine.champion, swapped_answers)
    assert found.blamed == "infra"


@pytest.mark.parametrize("line", ["not json", "{}", '{"audio": "nowhere.flac"}', '{"audio": "manifest.jsonl"}'])
def test_a_manifest_that_is_wrong_names_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n" + line + "\n")
    with pytest.raises(BadInput, match="line 2"):
        read_manifest(path)
    path.write_text("\n")
    with pytest.raises(BadInput, match="no recordings"):
        read_manifest(path)
