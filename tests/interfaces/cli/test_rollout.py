"""The commands of rollouts on a store file: what an operator types at night."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from speechpipe.control.rollout.operations import RolloutOperations, Verified
from speechpipe.control.rollout.speech_guards import GUARDS
from speechpipe.foundation.storage.store import Store
from tests import preloaded
from tests.conftest import OWN_WEIGHTS
from tests.databases import place_tables


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def speechpipe(
    folder: Path, *words: str, given: str = "", variables: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SPEECHPIPE_STATE_DIR": str(folder), **variables}
    return preloaded.run(*words, env=environment, input=given, text=True)


def served(folder: Path, bundle: str) -> None:
    """Write down what a server does when it starts: which bundle it serves."""
    store = Store(place_tables(folder / "speechpipe.db"))
    RolloutOperations(store, GUARDS, lambda name: Verified(name, "")).serve(bundle, f"{bundle}@1.0.0")
    store.close()


def test_a_rollout_from_a_variant_to_its_end(folder: Path) -> None:
    missing = speechpipe(folder, "rollout", "status")
    assert (missing.returncode, "there is no store" in missing.stderr) == (2, True)
    added = speechpipe(folder, "bundles", "add", "--from", "embedded", "--name", "tuned", "--set", "asr.maxwpf=8")
    assert added.returncode == 0, added.stderr
    different = speechpipe(folder, "bundles", "diff", "embedded", "tuned")
    assert (different.returncode, different.stdout) == (1, "asr.maxwpf: 10 -> 8\n")
    assert speechpipe(folder, "bundles", "diff", "tuned", "tuned@1.0.0").returncode == 0
    assert "tuned@1.0.0" in speechpipe(folder, "bundles", "verify", "tuned").stdout
    plan = speechpipe(folder, "rollout", "plan", "tuned", "--case", "new").stdout
    early = speechpipe(folder, "rollout", "start", "-", given=plan)
    assert (early.returncode, "no server has served on this store yet" in early.stderr) == (1, True)
    served(folder, "embedded")
    started = speechpipe(folder, "rollout", "start", "-", "--by", "ann", given=plan)
    assert started.returncode == 0, started.stderr
    assert "rollout 1 of tuned@1.0.0: running; [canary 1 %] -> canary 5 %" in started.stdout
    assert "more sessions" in started.stdout
    again = speechpipe(folder, "rollout", "start", "-", given=plan)
    assert (again.returncode, "is in progress" in again.stderr) == (1, True)
    refused = speechpipe(folder, "rollout", "promote")
    assert "not the last" in refused.stderr
    assert speechpipe(folder, "rollout", "pause", "-r", "lunch", "--by", "bob").returncode == 0
    found = json.loads(speechpipe(folder, "rollout", "status", "--json").stdout)
    assert found["rollout"]["status"] == "paused"
    assert found["aliases"] == {"champion": "embedded@1.0.0", "challenger": "tuned@1.0.0"}
    back = speechpipe(folder, "rollout", "rollback", "-r", "it sounds odd", "--by", "bob")
    assert "rolled_back" in back.stdout
    twice = speechpipe(folder, "rollout", "rollback", "-r", "it sounds odd", "--by", "bob")
    assert (twice.returncode, "rollout was started since" in " ".join(twice.stderr.split())) == (1, True), twice.stderr
    assert "rolled back: from tuned@1.0.0" in speechpipe(folder, "rollout", "status").stdout
    history = json.loads(speechpipe(folder, "rollout", "history", "--json").stdout)
    assert [(entry["actor"], entry["action"]) for entry in history] == [
        ("bob", "rollback"),
        ("bob", "pause"),
        ("ann", "start"),
        ("speechpipe", "serve"),
    ]
    assert "it sounds odd" in speechpipe(folder, "rollout", "history").stdout


def test_a_bundle_whose_weights_are_not_there_is_not_rolled_out(folder: Path) -> None:
    models = folder / "models"
    models.mkdir()
    (models / "asr.toml").write_text(
        'kind = "asr"\nname = "big"\nversion = "1"\nimplementation = "scripted"\n'
        'description = "d"\nlanguages = ["en"]\n'
        f'[[files]]\npath = "model.bin"\nsha256 = "{"0" * 64}"\nurl = "http://127.0.0.1:9/model.bin"\n'
    )
    (models / "bundle.toml").write_text(
        'kind = "bundle"\nname = "big"\nversion = "1"\ndescription = "d"\nlanguages = ["en"]\n'
        '[vad]\ncard = "silero"\n[asr]\ncard = "big"\n'
    )
    plan = speechpipe(folder, "rollout", "plan", "big").stdout
    refused = speechpipe(folder, "rollout", "start", "-", given=plan)
    assert refused.returncode == 2
    assert "big@1 is not verified" in refused.stderr
    assert "models pull" in refused.stderr
    pulled = speechpipe(folder, "models", "pull", "big", variables=OWN_WEIGHTS)
    assert (pulled.returncode, "cannot be reached" in pulled.stderr) == (1, True)
    assert speechpipe(folder, "bundles", "verify", "big").returncode == 1
    assert "not fetched" in speechpipe(folder, "models", "list", variables={"COLUMNS": "300"}).stdout
