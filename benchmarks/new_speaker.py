"""A speaker that the recognizer never heard: each of the six of `../shared/data/digits` held out in turn, then taught
from 40 reviewed clips. `python benchmarks/new_speaker.py VOICES` (three quarters of an hour on two cores), after
`python tools/voices.py VOICES zero one two three four five six seven eight nine`"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from measure import SHARED, Board, add_record

from speechpipe.cascade.asr.acoustic import ALPHABET
from speechpipe.cascade.evaluation.scores import Errors
from speechpipe.control.training.ctc.adaptation import FINE, WEIGHTS, CtcOptions, teach, train
from speechpipe.control.training.ctc.training import TrainOptions
from speechpipe.control.training.examples import Example, read_examples

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES, VALID_TAKES, REVIEWED_TAKES = range(5), range(5, 6), range(6, 10)
REVIEWED = 40


@dataclass(frozen=True)
class Job:
    """One speaker held out."""

    speaker: str
    voices: Path
    folder: Path
    epochs: int


@dataclass(frozen=True)
class Outcome:
    """Word error rates: the speaker's before and after, the others' before and after."""

    speaker: str
    unheard: float
    before: float
    after: float
    others_before: float
    others_after: float


def take(example: Example) -> int:
    """Return which of a speaker's takes of a digit this is: 7_theo_13.flac is the 13th."""
    return int(example.name.split("_")[2].split(".")[0])


def digits(takes: Sequence[int], speakers: set[str], clips: Sequence[Example]) -> list[Example]:
    """Return the clips of some takes and speakers."""
    return [clip for clip in clips if take(clip) in takes and clip.speaker in speakers]


def wer(errors: Sequence[Errors]) -> float:
    """Return the pooled rate."""
    return sum(item.edits for item in errors) / sum(item.length for item in errors)


def hold_out(job: Job) -> Outcome:
    """Train without a speaker, then teach the network 40 clips of theirs."""
    import torch

    from speechpipe.cascade.asr.acoustic.lattice import Lexicon
    from speechpipe.cascade.asr.acoustic.weights import load
    from speechpipe.control.training.ctc.training import word_error_counts

    os.nice(5)
    torch.set_num_threads(1)
    clips = read_examples([SHARED / "digits" / "manifest.jsonl"], ALPHABET).items
    others, own = {clip.speaker for clip in clips} - {job.speaker}, {job.speaker}
    folder = job.folder / job.speaker
    options = CtcOptions(
        TrainOptions(epochs=job.epochs, patience=job.epochs),
        words=DIGITS,
        extra=read_examples([job.voices / "manifest.jsonl"], ALPHABET).items,
    )
    if not (folder / WEIGHTS).exists():
        learnt = digits(range(6, 20), others, clips)
        train(
            learnt, digits(VALID_TAKES, others, clips), folder, options, lambda p, batch, _: say(job, p.epochs, batch)
        )
    lexicon = Lexicon(DIGITS, ALPHABET)

    def errors(weights: Path, examples: Sequence[Example]) -> float:
        return wer(word_error_counts(load(weights), examples, lexicon))

    reviewed = digits(REVIEWED_TAKES, own, clips)
    assert len(reviewed) == REVIEWED
    rest = digits([number for number in range(20) if number not in REVIEWED_TAKES], own, clips)
    test = digits(TEST_TAKES, others, clips)
    taught = folder / "taught"
    shutil.rmtree(taught, ignore_errors=True)
    fine = replace(options, train=FINE, extra=(), size=16)
    teach(folder / WEIGHTS, reviewed, reviewed[:4], taught, fine)
    first, second = folder / WEIGHTS, taught / WEIGHTS
    everything = digits(range(20), own, clips)
    return Outcome(
        job.speaker, errors(first, everything), errors(first, rest), errors(second, rest),
        errors(first, test), errors(second, test),
    )  # fmt: skip


def say(job: Job, epochs: Sequence[object], batch: int) -> None:
    """Show where a training stands."""
    if epochs and batch == 0:
        sys.stderr.write(f"{job.speaker}: {epochs[-1]}\n")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("voices", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("var/new_speaker"), help="keeps the six networks")
    parser.add_argument("--epochs", type=int, default=45)
    add_record(parser)
    given = parser.parse_args()
    speakers = sorted({clip.speaker for clip in read_examples([SHARED / "digits" / "manifest.jsonl"]).items})
    jobs = [Job(speaker, given.voices, given.folder, given.epochs) for speaker in speakers]
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(hold_out, jobs))
    board = Board("Digits by a speaker that was held out: words wrong; then taught from 40 of their clips")
    for one in found:
        board.add(
            one.speaker,
            "",
            f"{one.unheard:.1%}; {one.before:.1%} -> {one.after:.1%}; "
            f"others {one.others_before:.1%} -> {one.others_after:.1%}",
        )
    mean = sum(one.unheard for one in found) / len(found)
    before, after = (sum(getattr(one, name) for one in found) for name in ("before", "after"))
    cost = sum(one.others_after - one.others_before for one in found) / len(found)
    board.add("held out, mean over speakers", "<= 15 %", f"{mean:.1%}", mean <= 0.15)
    board.add("their error after 40 clips", ">= 30 % less", f"{1 - after / before:.1%} less", after <= 0.7 * before)
    board.add("the others' error", "<= 1 point more", f"{100 * cost:+.2f} points", cost <= 0.01)
    board.show()


if __name__ == "__main__":
    main()
