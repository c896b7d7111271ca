"""The hook in a process of its own: without a fault nothing differs, and faults come and go with the file."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from speechpipe.bench.live.active import ActiveFaults, write
from speechpipe.bench.live.hook import write_hook
from tests.cascade.asr import tiny_models
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[3]

PROGRAM = """
import json, sys, time
import numpy as np
from pathlib import Path
from speechpipe.bench.live.active import write
from speechpipe.cascade.asr import BatchRecognizer, DecodeOptions, Piece, load_recognizer
from speechpipe.cascade.catalog import factories
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.vad.loaded import LoadedVads
from speechpipe.types import Component

path, kinds = Path(sys.argv[1]), json.loads(sys.argv[2])
samples = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
bundle = Catalogue([shipped_models()]).bundle("scripted")
vad = LoadedVads().get(Component("energy", "1", "energy"))
recognizers = [load_recognizer("scripted", streaming=True), load_recognizer("scripted", streaming=False)]
batches = load_recognizer("scripted", batch_s=10.0)
assert isinstance(batches, BatchRecognizer)

def answers():
    found = []
    for recognizer in recognizers:
        stream = recognizer.open(DecodeOptions())
        stream.feed(samples)
        try:
            found.append(stream.finish().text)
        except RuntimeError as error:
            found.append(f"raised {error}")
    try:
        found += [one.text for one in batches.transcribe([Piece(samples)] * 2)]
    except RuntimeError as error:
        found.append(f"raised {error}")
    return found

def seen():
    begun = time.monotonic()
    segmenter = factories.segmenter(bundle, 512)
    return {
        "answers": answers(),
        "took_s": time.monotonic() - begun,
        "threshold": segmenter.options.threshold,
        "scores": np.asarray(vad.open().probabilities(samples[:46_592].reshape(-1, 512))).round(3).tolist(),
    }

found = [seen()]
for faults in kinds:
    write(path, faults)
    found.append(seen())
print(json.dumps(found))
"""


def hooked(folder: Path, *faults: Mapping[str, Any], program: str = PROGRAM) -> list[Any]:
    """Run the program with the hook; return what it saw without a fault, and under each of `faults` in turn."""
    path = folder / "faults.json"
    write_hook(folder / "hook", path)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), json.dumps(faults)],
        env={**os.environ, "PYTHONPATH": f"{folder / 'hook'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def test_faults_come_and_go_with_the_file(tmp_path: Path) -> None:
    faults: list[dict[str, list[float]]] = [
        {"asr_empty": [1.0], "vad_threshold": [0.9]},
        {"asr_truncated": [0.5]},
        {"asr_raises": [1.0], "vad_weights": [0.9]},
        {"asr_feature_scaling": [2.0]},
        {"decode_sleep": [0.1]},
        {},
    ]
    healthy, empty, cut, raising, changed, slow, again = hooked(tmp_path, *faults)
    words = [len(text.split()) for text in healthy["answers"]]
    assert words == [9, 9, 9, 9]
    assert healthy["threshold"] == 0.5
    assert empty["answers"] == [""] * 4
    assert empty["threshold"] == 0.9
    assert [len(text.split()) for text in cut["answers"]] == [5] * 4
    assert all("injected" in text for text in raising["answers"])
    assert raising["scores"] != healthy["scores"]
    assert all(now != before for now, before in zip(changed["answers"], healthy["answers"], strict=True))
    assert slow["took_s"] >= 0.4
    assert slow["answers"] == healthy["answers"]
    for name in ("answers", "threshold", "scores"):
        assert again[name] == healthy[name]


STORE = """
import json, sys, time
from pathlib import Path
from speechpipe.bench.live.active import write
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store

path = Path(sys.argv[1])
store = Store(f"sqlite:///{path.parent / 'store.db'}")
store.open()

def written(number):
    begun = time.monotonic()
    assert store.write(Record("session", f"s{number}", f"s{number}", 1.0, "upload", "b", "1"), 60.0)
    return time.monotonic() - begun

written(0)
write(path, {"store_slow": [1.0]})
slow = written(1)
print(json.dumps([slow]))
store.close()
"""


def test_a_slow_store_takes_longer_for_a_record(tmp_path: Path) -> None:
    (slow_s,) = hooked(tmp_path, program=STORE)
    assert float(str(slow_s)) >= 1.0


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    faults = ActiveFaults(str(path))
    assert faults.value("gain") is None
    write(path, {"gain": [3], "stopped": [1, 2]})
    assert faults.value("gain") == 3.0
    assert faults.values("stopped") == (1.0, 2.0)
    write(path, {})
    assert faults.value("gain") is None
    path.write_text("{")
    assert faults.value("gain") is None


@pytest.mark.parametrize("name", ["speechpipe.cascade.asr", "speechpipe.foundation.storage.store"])
def test_the_hook_imports_nothing_of_the_service_by_itself(name: str, tmp_path: Path) -> None:
    write_hook(tmp_path / "hook", tmp_path / "faults.json")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; print({name!r} in sys.modules, 'numpy' in sys.modules)"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'hook'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]


LOOKING = """
import json, sys
import numpy as np
from pathlib import Path
from types import SimpleNamespace
from speechpipe.bench.live.active import write
from speechpipe.cascade.asr import DecodeOptions, StreamWithSteps, load_recognizer

path, files = Path(sys.argv[1]), json.loads(sys.argv[2])[0]
files = [SimpleNamespace(role=role, path=Path(file)) for role, file in files.items()]
whisper = load_recognizer("whisper", files)

def heard():
    stream = whisper.open(DecodeOptions())
    assert isinstance(stream, StreamWithSteps)
    stream.feed(np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32))
    try:
        return stream.decode_looking(lambda: None).text
    except RuntimeError as error:
        return str(error)

found = [heard()]
write(path, {"asr_raises": [1.0]})
print(json.dumps([*found, heard()]))
"""


def test_a_recognizer_that_looks_at_partial_results_while_it_decodes_is_reached(tmp_path: Path) -> None:
    """Live audio is decoded so before its end is certain."""
    files = {name: str(path) for name, path in tiny_models.whisper(tmp_path / "model").items()}
    healthy, raising = hooked(tmp_path, files, program=LOOKING)
    assert "injected" not in healthy
    assert raising == "an injected failure of the recognizer"
