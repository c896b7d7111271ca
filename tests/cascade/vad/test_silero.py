"""Silero: the same scores as its own package, without importing it."""

import subprocess
import sys

import numpy as np

from speechpipe.cascade.vad import load_vad
from tests.sounds import sample


def test_scores_equal_those_of_the_silero_package() -> None:
    import torch
    from silero_vad import load_silero_vad

    audio = sample("noise_20db")
    model = load_silero_vad(onnx=True)
    frames = audio[: len(audio) // 512 * 512].reshape(-1, 512)
    theirs = np.array([float(model(torch.from_numpy(frame), 16_000)) for frame in frames])
    np.testing.assert_allclose(load_vad("silero").open().probabilities(frames), theirs, atol=1e-4)


def test_loading_it_does_not_import_torch() -> None:
    code = "import sys; from speechpipe.cascade.vad import load_vad; load_vad('silero'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
