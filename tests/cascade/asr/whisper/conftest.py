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
    """Return tiny.en with its released weights, which the run has fetched (`tests.conftest`)."""
    folder: Path = Settings().weights_folder / "whisper-tiny-en-1.0.0"
    return WhisperRecognizer({"model": folder / "model.bin"}, language="en")
