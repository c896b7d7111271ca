"""`speechpipe hotwords`, and what `speechpipe transcribe` can be told about the words in a recording."""

import json
import os
import subprocess
from pathlib import Path

from tests import preloaded
from tests.databases import place_tables
from tests.sounds import SAMPLES


def speechpipe(state: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "SPEECHPIPE_STATE_DIR": str(state), "SPEECHPIPE_WORKERS": "1"}
    return preloaded.run(*words, env=environment, text=True)


def test_the_list_of_a_tenant_is_set_and_added_to(tmp_path: Path) -> None:
    place_tables(tmp_path / "speechpipe.db")
    assert speechpipe(tmp_path, "hotwords", "show").stdout == "no list was set\n"
    done = speechpipe(tmp_path, "hotwords", "set", "default", "Okonkwo", "Frau Sczepanski")
    assert (done.returncode, done.stdout) == (0, "default: Okonkwo, Frau Sczepanski\n")
    added = speechpipe(tmp_path, "hotwords", "set", "default", "--add", "Ng", "--by", "ann", "--json")
    assert json.loads(added.stdout)["terms"] == ["Okonkwo", "Frau Sczepanski", "Ng"]
    shown = json.loads(speechpipe(tmp_path, "hotwords", "show", "--json").stdout)
    assert [(row["scope"], row["revision"], row["actor"]) for row in shown["scopes"]] == [("default", 2, "ann")]
    assert speechpipe(tmp_path, "hotwords", "set", "nobody", "x").returncode == 2
    assert speechpipe(tmp_path, "hotwords", "set", "default", "x" * 65).returncode == 2
    assert speechpipe(tmp_path, "hotwords", "set", "default").stdout == "default: none\n"


def test_a_file_with_hotwords(tmp_path: Path) -> None:
    clip = str(SAMPLES / "stereo.flac")
    assert "half past three" not in speechpipe(tmp_path, "transcribe", clip).stdout
    done = speechpipe(tmp_path, "transcribe", clip, "--hotword", "Okonkwo", "--hotword", "half past three")
    assert "half past three" in done.stdout
    refused = speechpipe(tmp_path, "transcribe", clip, "--translate")
    assert refused.returncode == 2
    assert "cannot translate; multilingual can" in refused.stderr


def test_live_audio_with_hotwords_and_text_options(tmp_path: Path) -> None:
    clip = str(SAMPLES / "stereo.flac")
    done = speechpipe(tmp_path, "stream", clip, "--fast", "--hotword", "half past three", "--no-punctuate")
    assert done.returncode == 0, done.stderr
    assert "half past three" in done.stdout
    assert done.stdout == done.stdout.lower()
    assert not set(".,?") & set(done.stdout)
    refused = speechpipe(tmp_path, "stream", clip, "--hotword", "x" * 65)
    assert refused.returncode == 2
    assert "hotword" in refused.stderr
