"""Figure 2: the block VAD of uploads against Silero's own loop. `python benchmarks/vad_speed.py [--record]`"""

import time
import warnings
from collections.abc import Callable

import numpy as np
from measure import Board, long_audio

from speechpipe.cascade.audio.features import frame_levels_db
from speechpipe.cascade.vad import load_vad
from speechpipe.cascade.vad.segmenter import Segmenter, SegmenterOptions
from speechpipe.types import Samples

ROUNDS = 5
MINUTES = 5.0


def cpu_of(work: Callable[[], object]) -> float:
    """CPU seconds of this process for one call."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    import torch
    from silero_vad import get_speech_timestamps, load_silero_vad

    torch.set_num_threads(1)
    theirs, ours = load_silero_vad(onnx=True), load_vad("silero")
    audio = long_audio(MINUTES)
    audio = audio[: len(audio) // 512 * 512]
    tensor, frames = torch.from_numpy(audio), audio.reshape(-1, 512)

    def block() -> Samples:
        stream, segmenter = ours.open(), Segmenter(SegmenterOptions(), 512)
        scores = []
        for start in range(0, len(frames), 512):
            part = frames[start : start + 512]
            scores.append(stream.probabilities(part))
            segmenter.push(scores[-1], frame_levels_db(part))
        segmenter.finish(len(audio))
        return np.concatenate(scores)

    def single() -> Samples:
        stream = ours.open()
        return np.concatenate([stream.probabilities(frame[None]) for frame in frames])

    def package() -> Samples:
        theirs.reset_states()
        return np.array([theirs(tensor[at : at + 512], 16_000).item() for at in range(0, len(audio), 512)], np.float32)

    costs: dict[str, list[float]] = {"theirs": [], "block": [], "single": []}
    for _ in range(ROUNDS):  # in turns, so that a slow moment of the machine meets all of them
        costs["theirs"].append(cpu_of(lambda: get_speech_timestamps(tensor, theirs)))
        costs["block"].append(cpu_of(block))
        costs["single"].append(cpu_of(single))
    ratio = float(np.median(np.array(costs["theirs"]) / np.array(costs["block"])))
    reference = package()
    difference = float(np.abs(reference - block()).max())
    live = float(np.abs(block() - single()).max())
    board = Board(f"VAD speed: {MINUTES:g} min, one thread, median of {ROUNDS} rounds")
    board.add(
        "CPU of get_speech_timestamps (ONNX) over block scores + segmenter", ">= 2.5", f"{ratio:.2f}", ratio >= 2.5
    )
    board.add(
        "largest difference of a probability from the package's", "<= 1e-4", f"{difference:.1e}", difference <= 1e-4
    )
    board.add("largest difference between blocks of 512 and single frames", "<= 1e-4", f"{live:.1e}", live <= 1e-4)
    board.add("x real time, block", "", f"{MINUTES * 60 / min(costs['block']):.0f}")
    board.add("x real time, frame by frame (ours)", "", f"{MINUTES * 60 / min(costs['single']):.0f}")
    board.add("x real time, get_speech_timestamps", "", f"{MINUTES * 60 / min(costs['theirs']):.0f}")
    board.show()


if __name__ == "__main__":
    main()
