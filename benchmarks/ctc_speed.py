"""The digits recognizer beside PocketSphinx with a grammar of the ten digits, on the held-out takes of
`../shared/data/digits`: errors and CPU time; and batches beside one segment at a time.
`python benchmarks/ctc_speed.py [--device cuda] [--record]`"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from measure import SHARED, Board, add_record
from new_speaker import DIGITS, TEST_TAKES, take
from pocketsphinx import Decoder

from speechpipe.cascade.asr.ctc import CtcRecognizer
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.evaluation.scores import rate, word_errors
from speechpipe.control.training.examples import Example, read_examples

GRAMMAR = f"#JSGF V1.0;\ngrammar digits;\npublic <digits> = ( {' | '.join(DIGITS)} )+;\n"
BATCH, ROUNDS = 32, 3


class Grammar:
    """PocketSphinx that expects digits and nothing else, its cepstral mean over the whole segment."""

    def __init__(self) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".gram") as file:
            file.write(GRAMMAR)
            file.flush()
            self._decoder = Decoder(loglevel="FATAL", lm=None, jsgf=file.name, fwdflat=False)

    def text(self, example: Example) -> str:
        """Decode one segment."""
        self._decoder.start_utt()
        self._decoder.process_raw((example.samples * 32767).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found else ""


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return (CPU seconds, wall seconds, result)."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = work()
    return time.process_time() - cpu, time.perf_counter() - wall, found


def batched(recognizer: CtcRecognizer, examples: Sequence[Example], size: int) -> list[str]:
    """Decode in batches, of segments of like length as training does."""
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].samples))
    found = [""] * len(examples)
    for start in range(0, len(order), size):
        part = order[start : start + size]
        for index, transcript in zip(part, recognizer.transcribe([examples[i].samples for i in part]), strict=True):
            found[index] = transcript.text
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    add_record(parser)
    given = parser.parse_args()
    clips = [clip for clip in read_examples([SHARED / "digits" / "manifest.jsonl"]).items if take(clip) in TEST_TAKES]
    seconds = sum(clip.duration_s for clip in clips)
    files = {file.role: file.path for file in Catalogue([shipped_models()]).bundle("digits").asr.files}
    board = Board(f"{len(clips)} held-out takes of six speakers, {seconds:.0f} s")
    one = CtcRecognizer(files, device="cpu", threads=1)
    one.transcribe([clips[0].samples])
    grammar = Grammar()
    ours = timed(lambda: batched(one, clips, 1))
    theirs = timed(lambda: [grammar.text(clip) for clip in clips])
    for name, (cpu_s, _, texts), asked in (("ctc", ours, "<= 5 %"), ("PocketSphinx, grammar", theirs, "")):
        wer = rate([word_errors(clip.text, text) for clip, text in zip(clips, texts, strict=True)])
        assert wer is not None
        board.add(f"{name}: word error rate", asked, str(wer), wer.value <= 0.05 if asked else None)
        board.add(f"{name}: CPU seconds a second of audio", "", f"{cpu_s / seconds:.4f}")
    for device in dict.fromkeys(["cpu", given.device]):
        recognizer = CtcRecognizer(files, device=device, threads=torch.get_num_threads() if device == "cuda" else 2)
        recognizer.transcribe([clip.samples for clip in clips[:BATCH]])
        alone, together = [], []
        for _ in range(ROUNDS):
            alone.append(timed(lambda: batched(recognizer, clips, 1))[1])  # noqa: B023 - called at once
            together.append(timed(lambda: batched(recognizer, clips, BATCH))[1])  # noqa: B023
        gain = min(alone) / min(together)
        same = batched(recognizer, clips, 1) == batched(recognizer, clips, BATCH)
        board.add(f"{device}: batches of {BATCH} over one at a time, 2 threads", ">= 3", f"{gain:.1f}", gain >= 3)
        board.add(f"{device}: the same texts", "yes", "yes" if same else "no", same)
        board.add(f"{device}: audio seconds a second, batched", "", f"{seconds / min(together):.0f}")
    board.show()


if __name__ == "__main__":
    main()
