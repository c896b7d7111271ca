"""Every fault does what its row says, and the mild form does less than the severe one."""

from typing import Any

import numpy as np
import pytest

from speechpipe.bench.faults import SEVERITIES, Fault, Level, audio, behaviour, detection, operation, recognition
from speechpipe.bench.faults.table import BY_NAME, FAULTS
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.vad import load_vad
from speechpipe.foundation.storage.record import Record
from speechpipe.serving.telemetry.failure_modes import FAULTS_BY_METRIC as EXERCISED
from speechpipe.types import Transcript, Word
from tests.sounds import bursts, sample, tone

SPEECH = bursts([(0.3, 0.001), (1.0, 0.2), (0.3, 0.001), (0.8, 0.1), (0.3, 0.001)])


def of(level: Level) -> list[Fault]:
    return [fault for fault in FAULTS if fault.level is level]


def material(seed: int = 0) -> audio.Material:
    return audio.Material(np.random.default_rng(seed), (tone(1.0, 300), bursts([(0.5, 0.1), (0.2, 0.0)])))


def test_names_are_unique_and_both_halves_have_every_level() -> None:
    assert len(BY_NAME) == len(FAULTS)
    for half in (True, False):
        assert {fault.level for fault in FAULTS if fault.tuning is half} == set(Level)


def test_every_fault_that_a_failure_mode_names_exists() -> None:
    named = {name for names in EXERCISED.values() for name in names}
    assert named <= set(BY_NAME)


@pytest.mark.parametrize("fault", of(Level.INPUT), ids=lambda fault: fault.name)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_audio_stays_audio(fault: Fault, severity: str) -> None:
    spoiled = audio.spoil(fault.name, audio.Sound(SPEECH), fault.value(severity), material())
    samples = np.asarray(spoiled.samples)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1.0


@pytest.mark.parametrize("fault", of(Level.INPUT), ids=lambda fault: fault.name)
def test_the_severe_form_changes_what_is_heard_or_said_of_it(fault: Fault) -> None:
    spoiled = [audio.spoil(fault.name, audio.Sound(SPEECH), fault.values[2], material(seed)) for seed in range(8)]
    changed = [
        len(one.samples) != len(SPEECH) or not np.allclose(one.samples, SPEECH) or one.channel_correlation is not None
        for one in spoiled
    ]
    assert sum(changed) >= 4


def test_noise_has_the_ratio_that_was_asked_for() -> None:
    noisy = audio.with_noise(SPEECH, audio.pink(len(SPEECH), np.random.default_rng(0)), 5.0)
    ratio = 10 * np.log10(np.mean(SPEECH**2) / np.mean((noisy - SPEECH) ** 2))
    assert ratio == pytest.approx(5.0, abs=0.1)


def test_gain_and_loss_are_as_large_as_they_say() -> None:
    quiet = audio.spoil("gain", audio.Sound(SPEECH), 20.0, material()).samples
    assert np.std(quiet) == pytest.approx(np.std(SPEECH) / 10, rel=0.02)
    lost = audio.spoil("dropped_frames", audio.Sound(np.ones(160_000, np.float32)), 0.2, material()).samples
    assert np.mean(lost == 0) == pytest.approx(0.2, abs=0.05)
    short = audio.spoil("truncated_upload", audio.Sound(SPEECH), 0.75, material())
    assert len(short.samples) == pytest.approx(len(SPEECH) / 4, abs=1)
    assert short.claimed_s == len(SPEECH) / 16_000


@pytest.mark.parametrize("fault", of(Level.VAD), ids=lambda fault: fault.name)
def test_a_faulty_vad_scores_otherwise_or_is_told_otherwise(fault: Fault) -> None:
    if detection.parameters(fault.name, fault.values[2]):
        return
    vad = load_vad("silero")
    speech, before = sample("sentence_slt"), sample("sentence_awb")
    size = vad.frame_samples
    frames = speech[: len(speech) // size * size].reshape(-1, size)
    healthy = vad.open().probabilities(frames)
    spoiled = detection.FaultyVad(vad, fault.name, fault.values[2], before).open().probabilities(frames)
    assert spoiled.shape == healthy.shape
    assert np.isfinite(spoiled).all()
    if fault.name == "vad_boundary_offset":
        late = round(0.3 * 16_000 / size)
        np.testing.assert_array_equal(spoiled[late:], healthy[:-late])
    else:
        assert not np.allclose(spoiled, healthy)


def transcript() -> Transcript:
    words = tuple(
        Word(text, 0.1 * i, 0.1 * i + 0.1, 0.6)
        for i, text in enumerate(["call", "me", "at", "five", "two", "seven", "now"])
    )
    return Transcript(" ".join(word.text for word in words), words, 0.6)


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [
        ("asr_truncated", 0.75, lambda found: len(found.words) == 2),
        ("asr_repetition", 1.0, lambda found: found.text.count("five") == recognition.REPEATS),
        ("asr_vocabulary", 1.0, lambda found: not {"call", "five"} & set(found.text.split())),
        ("asr_empty_on_long", 1.5, lambda found: found.null_cause == "empty"),
        ("asr_empty_on_long", 4.0, lambda found: found.text == transcript().text),
        ("asr_digits_dropped", 1.0, lambda found: found.text == "call me at now"),
        (
            "confidence_offset",
            0.3,
            lambda found: found.confidence == pytest.approx(0.9) and found.text == transcript().text,
        ),
        ("nothing", 1.0, lambda found: found == transcript()),
    ],
)
def test_texts_are_spoiled_on_their_way_out(name: str, value: float, check: Any) -> None:
    found = recognition.spoil(name, value, transcript(), 2.0, np.random.default_rng(0))
    assert check(found), found


def test_wrong_features_are_other_samples_and_a_wrong_model_is_another() -> None:
    assert not np.allclose(recognition.features("asr_feature_scaling", 2, SPEECH), SPEECH)
    assert recognition.features("asr_truncated", 0.5, SPEECH) is SPEECH
    catalogue = Catalogue([shipped_models()])
    usual, small = catalogue.bundle("default").asr, catalogue.bundle("embedded").asr
    wrong = recognition.model("asr_wrong_model", 3, usual, small)
    assert (wrong.implementation, wrong.options["ds"]) == ("pocketsphinx", 4)
    assert recognition.model("asr_wrong_model", 3, small, small) == wrong
    assert recognition.model("asr_truncated", 0.5, usual, small) is usual


def records(count: int = 3) -> tuple[Record, list[Record]]:
    common: dict[str, Any] = {"session_id": "s", "at": 0.0, "channel": "upload", "bundle": "b", "bundle_version": "1"}
    measures = {"asr.wall_s": 0.5, "asr.queue_s": 0.1, "asr.confidence": 0.8, "asr.words": 4}
    units = [
        Record("unit", f"s-{i}", measures={**measures, "vad.start_s": float(i)}, versions={"asr": "a@1"}, **common)
        for i in range(count)
    ]
    return Record("session", "s", measures={"vad.segments": count}, versions={"asr": "a@1"}, **common), units


def spoiled(name: str, value: float = 1.0) -> tuple[Record, list[Record]]:
    return operation.spoil(name, value, *records(), np.random.default_rng(0))


def test_faults_of_the_service_show_in_the_records() -> None:
    assert spoiled("records_lost")[1] == []
    assert {unit.outcome for unit in spoiled("worker_timeouts")[1]} == {"timeout"}
    assert all(unit.measures["asr.confidence"] is None for unit in spoiled("worker_timeouts")[1])
    assert {unit.measures["asr.attempts"] for unit in spoiled("memory_leak_and_restarts")[1]} == {2}
    assert {unit.versions["asr"] for unit in spoiled("version_skew")[1]} == {"another@0.9"}
    assert spoiled("canary_share")[0].arm == "canary"
    twice = spoiled("duplicated_responses")[1]
    assert len(twice) == 6
    assert len({unit.id for unit in twice}) == 6
    slow = operation.spoil("cpu_contention", 8.0, *records(40), np.random.default_rng(0))[1]
    assert 10 < sum(unit.measures["asr.wall_s"] == 4.0 for unit in slow) < 30


def test_people_change_what_they_do_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    moved = behaviour.spoil("redo_button_moved", 1.0, behaviour.Habits())
    assert "redo" not in {kind for _ in range(500) for kind in moved.draw(0.5, random)}
    hidden = behaviour.spoil("text_box_hidden", 0.5, behaviour.Habits())
    typed = sum("switch_to_typing" in hidden.draw(0.0, random) for _ in range(1000))
    assert typed == pytest.approx(520, abs=60)
