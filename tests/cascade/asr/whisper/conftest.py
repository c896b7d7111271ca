"""A tiny Whisper with random weights, and the released weights where they are in the models folder."""

from pathlib import Path

import pytest

from speechpipe.cascade.asr.whisper.recognizer import WhisperRecognizer
from speechpipe.config import Settings
from tests.cascade.asr import tiny_models


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> WhisperRecognizer:
    """Return a recognizer whose words mean nothing."""
    return WhisperRecognizer(tiny_models.whisper(tmp_path_factory.mktemp("whisper")))


@pytest.fixture(scope="session")
def released() -> WhisperRecognizer:
    """Return tiny.en with its released weights; skips the test where `speechpipe models pull` has not fetched them."""
    folder: Path = Settings().own_models_dir / "asr" / "files" / "whisper-tiny-en-1.0.0"
    if not (folder / "model.bin").exists():
        pytest.skip(f"no weights in {folder}: speechpipe models pull whisper-tiny-en")
    return WhisperRecognizer({"model": folder / "model.bin"}, language="en")
