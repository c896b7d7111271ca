"""Every recognizer of the table, with files: those that are shipped, or tiny untrained models of the real libraries."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from speechpipe.cascade.asr import Recognizer, load_recognizer
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.types import ModelFile
from tests.cascade.asr import tiny_models
from tests.cascade.asr.sherpa import tiny_transducers

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here asks a hub for anything

MADE: Mapping[str, Callable[[Path], dict[str, Path]]] = {
    "emformer": tiny_models.emformer,
    "moonshine": tiny_models.moonshine,
    "sherpa_sense_voice": tiny_transducers.sense_voice,
    "sherpa_streaming": tiny_transducers.streaming,
    "sherpa_transducer": tiny_transducers.parakeet,
    "wav2vec2": tiny_models.wav2vec2,
    "whisper": tiny_models.whisper,
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "pocketsphinx": {"fwdflat": False, "maxhmmpf": 1500, "topn": 2},
    "emformer": {"beam": 2},
}

Load = Callable[[str], Recognizer]


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Load a recognizer by its name in the table; each is made once."""
    known: dict[str, Recognizer] = {}
    catalogue = Catalogue([shipped_models()])

    def loaded(name: str) -> Recognizer:
        if name not in known:
            files: tuple[ModelFile, ...] = ()
            if name in MADE:
                paths = MADE[name](tmp_path_factory.mktemp(name))
                files = tuple(ModelFile(role, path, "") for role, path in paths.items())
            elif name == "ctc":
                files = catalogue.bundle("digits").asr.files
            known[name] = load_recognizer(name, files, **OPTIONS.get(name, {}))
        return known[name]

    return loaded
