"""The network and the file it lives in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from speechpipe.cascade.asr.acoustic import NetworkConfig
from speechpipe.cascade.asr.acoustic.network import CtcNetwork
from speechpipe.cascade.asr.acoustic.weights import load, save
from speechpipe.errors import BadInput
from speechpipe.types import Samples
from tests.sounds import sample

SMALL = NetworkConfig(channels=4, hidden=12, layers=2)


@pytest.fixture(scope="module")
def network() -> CtcNetwork:
    torch.manual_seed(1)
    return CtcNetwork(SMALL).eval()


def heard(network: CtcNetwork, clips: list[Samples]) -> list[torch.Tensor]:
    samples = torch.zeros(len(clips), max(map(len, clips)))
    for row, clip in zip(samples, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    with torch.inference_mode():
        found, frames = network(samples, torch.tensor([len(clip) for clip in clips]))
    return [row[:count] for row, count in zip(found, frames.tolist(), strict=True)]


def test_a_segment_is_heard_alike_in_any_company(network: CtcNetwork) -> None:
    speech = sample("digits")
    clips = [speech[:9000], speech[3000:4200], speech[:16_001], np.zeros(5000, np.float32)]
    together = heard(network, clips)
    for clip, found in zip(clips, together, strict=True):
        (alone,) = heard(network, [clip])
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)


def test_gain_is_nothing_to_it(network: CtcNetwork) -> None:
    speech = sample("digits")[:16_000]
    (loud,), (soft,) = heard(network, [speech]), heard(network, [speech * 0.1])
    torch.testing.assert_close(loud, soft, atol=2e-2, rtol=0)


def test_weights_come_back_as_they_went(network: CtcNetwork, tmp_path: Path) -> None:
    save(network, tmp_path / "w.safetensors")
    again = load(tmp_path / "w.safetensors")
    assert again.config == SMALL
    speech = sample("digits")[:8000]
    assert torch.equal(heard(network, [speech])[0], heard(again, [speech])[0])


def test_a_file_that_cannot_be_written_leaves_what_was_there(network: CtcNetwork, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(network, path)
    before = path.read_bytes()
    (tmp_path / "w.safetensors.new").mkdir()  # in its way
    with pytest.raises(OSError, match=r"w\.safetensors"):
        save(CtcNetwork(SMALL), path)
    assert path.read_bytes() == before


def test_broken_weights_say_so(network: CtcNetwork, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(network, path)
    whole = path.read_bytes()
    for broken in (b"", whole[:100], whole[: len(whole) // 2], b"\xff" * 4096):
        path.write_bytes(broken)
        with pytest.raises(BadInput, match=r"w\.safetensors"):
            load(path)
    save_file({"x": torch.zeros(3)}, path)
    with pytest.raises(BadInput, match="does not contain a speechpipe network"):
        load(path)
    network.letters.bias.data[0] = torch.nan
    try:
        save(network, path)
    finally:
        network.letters.bias.data[0] = 0.0
    with pytest.raises(BadInput, match="not finite"):
        load(path)
