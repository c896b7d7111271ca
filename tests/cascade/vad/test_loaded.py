"""The VADs of bundles: with the files of their cards, and each loaded once."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from speechpipe.cascade import vad
from speechpipe.cascade.vad.energy import EnergyVad
from speechpipe.cascade.vad.loaded import LoadedVads
from speechpipe.foundation.registry import Registry
from speechpipe.types import Component, ModelFile


class FromFile(EnergyVad):
    """Remembers what it was made of."""

    def __init__(self, files: Mapping[str, Path], limit: float) -> None:
        super().__init__()
        self.made_of = (dict(files), limit)


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vad, "VADS", Registry("VAD", {"from_file": f"{__name__}:FromFile"}))


def component(path: str) -> Component:
    return Component("mine", "1", "from_file", {"limit": 0.5}, (ModelFile("model", Path(path), "0" * 64),))


def test_files_with_a_role_and_options_are_handed_over_and_each_vad_is_loaded_once() -> None:
    loaded = LoadedVads()
    first = loaded.get(component("a.onnx"))
    assert isinstance(first, FromFile)
    assert first.made_of == ({"model": Path("a.onnx")}, 0.5)
    assert loaded.get(component("a.onnx")) is first
    assert loaded.get(component("b.onnx")) is not first
