"""The training process: `python -m speechpipe.control.training.process FOLDER PARENT`.

It carries out the folder's job spec at the lowest priority and writes the result there. SIGTERM or the death of its
parent stops it at the next step. Started again, it continues from its last checkpoint.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from speechpipe.control.training import Judgement, Kind, evaluation_gate
from speechpipe.control.training.examples import Example, Examples, read_examples, split
from speechpipe.control.training.job_spec import (
    CANDIDATE,
    PROGRESS,
    RESULT,
    STOPPED,
    Order,
    Result,
    read_order,
    read_result,
    write,
)
from speechpipe.errors import SpeechpipeError
from speechpipe.foundation import system
from speechpipe.types import ModelFile, Scalar

HELD_OUT = 0.2
"""Share of the reviews that is not trained on, to evaluate the candidate."""

LEAST = 10
"""The fewest usable examples."""


@dataclass
class TrainingContext:
    """The context of a training: its folder, its progress, and whether it must stop."""

    folder: Path
    stop: Callable[[], bool] = lambda: False

    def say(self, what: str, share: float) -> None:
        """Write the progress: what is being done, and the share of the whole (0 to 1)."""
        write(self.folder / PROGRESS, {"what": what, "share": round(share, 4)})

    @property
    def candidate(self) -> Path:
        """The folder for the new version's files."""
        return self.folder / CANDIDATE


class Stopped(Exception):
    """The training was asked to stop."""


def run(context: TrainingContext) -> Result:
    """Carry out the job spec; return the result.

    Raises:
        SpeechpipeError: there can be no candidate.
        Stopped: it was asked to stop.
    """
    order = read_order(context.folder)
    context.say("reading", 0.0)
    recipes: Mapping[Kind, Callable[[Order, TrainingContext], Result]] = {Kind.CTC: _ctc, Kind.LM: _lm, Kind.VAD: _vad}
    return recipes[order.kind](order, context)


def _examples(order: Order, context: TrainingContext, alphabet: str) -> tuple[Examples, list[Example], list[Example]]:
    found = read_examples([context.folder / path for path in order.manifests], alphabet).needed(LEAST)
    learnt, held = split(found.items, HELD_OUT, order.seed)
    return found, learnt, held


def _data(found: Examples, learnt: int, held: int) -> dict[str, Scalar]:
    return {
        "examples": learnt,
        "held_out": held,
        "seconds": round(sum(item.duration_s for item in found), 1),
        "speakers": len(found.speakers),
        "refused": found.said(),
        "licences": ", ".join(sorted(found.licences)),
    }


def _ctc(order: Order, context: TrainingContext) -> Result:
    from speechpipe.cascade.asr.acoustic.weights import load
    from speechpipe.cascade.asr.ctc import read_lexicon
    from speechpipe.control.training.ctc.adaptation import FINE, LEXICON, WEIGHTS, CtcOptions, teach
    from speechpipe.control.training.ctc.training import Progress

    files = {file.role: file.path for file in order.asr.files}
    alphabet = load(files["weights"]).config.alphabet
    found, learnt, held = _examples(order, context, alphabet)
    words: set[str] = set()
    if "lexicon" in files:
        # The lexicon uses all reviewed texts; only the audio of some is held out.
        words = {word for item in found for word in item.text.split()} | set(read_lexicon(files["lexicon"]))
    replay = read_examples([context.folder / path for path in order.replay], alphabet).items if order.replay else []
    options = CtcOptions(replace(FINE, seed=order.seed), words=sorted(words), extra=replay, size=16)

    def on_progress(progress: Progress, batch: int, batches: int) -> None:
        share = (len(progress.epochs) + batch / max(batches, 1)) / options.train.epochs
        context.say(f"epoch {len(progress.epochs) + 1} of {options.train.epochs}", 0.05 + 0.8 * min(share, 1.0))

    done = teach(
        files["weights"],
        learnt,
        learnt[: max(2, len(learnt) // 10)],
        context.candidate,
        options,
        on_progress,
        context.stop,
    )
    if done.progress.stopped == "stopped":
        raise Stopped
    names = {"weights": WEIGHTS} | ({"lexicon": LEXICON} if words else {})
    figures: dict[str, float] = {"epochs": len(done.progress.epochs), "new_words": len(words) and _new(words, files)}
    return _judged(order, context, names, held, _data(found, len(learnt), len(held)), figures)


def _new(words: set[str], files: Mapping[str, Path]) -> int:
    from speechpipe.cascade.asr.ctc import read_lexicon

    return len(words - set(read_lexicon(files["lexicon"])))


def _lm(order: Order, context: TrainingContext) -> Result:
    from speechpipe.cascade.asr.pocketsphinx import model_files
    from speechpipe.control.training.lm.adaptation import LmOptions, adapt
    from speechpipe.control.training.lm.pronounce import read_pronunciations

    files = dict(zip(("lm", "dict"), model_files(), strict=True)) | {file.role: file.path for file in order.asr.files}
    found, learnt, held = _examples(order, context, "")
    spoken = read_pronunciations(context.folder / order.pronunciations) if order.pronunciations else {}
    steps = iter(range(1, 10))
    adapted = adapt(
        [item.text for item in learnt],
        files["lm"],
        files["dict"],
        context.candidate,
        LmOptions(pronunciations=spoken, seed=order.seed),
        lambda what: context.say(what, 0.05 + 0.1 * next(steps)),
    )
    figures = {
        "weight": round(adapted.weight, 3),
        "new_words": len(adapted.new_words),
        "perplexity_before": round(adapted.perplexity_before, 1),
        "perplexity_after": round(adapted.perplexity_after, 1),
    }
    names = {"lm": "lm.bin", "dict": "words.dict"}
    data = _data(found, len(learnt), len(held)) | {"unpronounceable": adapted.refused.get("alphabet", 0)}
    return _judged(order, context, names, held, data, figures)


def _judged(
    order: Order,
    context: TrainingContext,
    names: Mapping[str, str],
    held: list[Example],
    data: Mapping[str, Scalar],
    figures: Mapping[str, float],
) -> Result:
    """Compare the old and the new model on held-out speech; return the result."""
    kept = tuple(file for file in order.asr.files if file.role not in names)
    new = replace(
        order.asr, files=kept + tuple(ModelFile(role, context.candidate / name, "") for role, name in names.items())
    )
    check = read_examples([context.folder / path for path in order.check]).items if order.check else []

    def compare(examples: list[Example]) -> evaluation_gate.Comparison:
        errors = []
        for number, component in enumerate((order.asr, new)):

            def on_progress(done: int, number: int = number) -> None:
                if context.stop():
                    raise Stopped
                context.say("evaluating on held-out speech", 0.85 + 0.15 * (number + done / len(examples)) / 2)

            errors.append(evaluation_gate.recognizer_errors(component, examples, on_progress))
        return evaluation_gate.compare_errors(errors[0], errors[1], order.seed)

    reviews, elsewhere = compare(held), compare(check) if check else None
    judgement, reason = evaluation_gate.judge(reviews, elsewhere)
    rates = {"wer_before": reviews.before, "wer": reviews.after}
    if elsewhere is not None:
        rates |= {"check_wer_before": elsewhere.before, "check_wer": elsewhere.after}
    return Result(judgement, reason, {**figures, **rates}, data, dict(names))


def _vad(order: Order, context: TrainingContext) -> Result:
    from speechpipe.cascade.vad import load_component
    from speechpipe.cascade.vad.segmenter import SegmenterOptions
    from speechpipe.control.training.spans import read_marked
    from speechpipe.control.training.vad_fit import fit

    recordings = read_marked([context.folder / path for path in order.manifests])
    vad = load_component(order.vad)
    start = SegmenterOptions().changed(order.segmenter)
    steps = iter(range(1, 20))

    def on_progress(what: str) -> None:
        if context.stop():
            raise Stopped
        context.say(what, min(0.95, 0.1 * next(steps)))

    fitted = fit(recordings, vad, start, seed=order.seed, on_progress=on_progress)
    figures = {
        "f1_before": fitted.before.f1,
        "f1": fitted.cross_validated.f1,
        "recall_before": fitted.before.recall,
        "recall": fitted.cross_validated.recall,
        "passed_on_before": fitted.passed_on_before.recall,
        "passed_on": fitted.passed_on.recall,
    }
    names = ("threshold", "negative_threshold", "min_speech_s", "min_silence_s", "pre_roll_s", "padding_s")
    values = {name: float(getattr(fitted.options, name) or fitted.options.exit_threshold) for name in names}
    said = (
        f"frame F1 {fitted.before.f1:.3f} -> {fitted.cross_validated.f1:.3f} by cross-validation on "
        f"{fitted.recordings} recordings"
    )
    data: dict[str, Scalar] = {"recordings": fitted.recordings}
    if fitted.better:
        return Result(Judgement.BETTER, said, figures, data, segmenter=values)
    worse = fitted.cross_validated.f1 < fitted.before.f1
    judgement = Judgement.WORSE if worse else Judgement.NO_BETTER
    return Result(judgement, f"{judgement.value.replace('_', ' ')}: {said}", figures, data, segmenter=values)


def main(folder: Path, parent: int) -> int:
    """Train in a folder; return the exit code. `parent` is the process id whose death stops the training."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all processes; the parent handles them
        signal.signal(number, signal.SIG_IGN)
    system.give_way(system.IDLE_PRIORITY)
    if read_result(folder) is not None:
        return 0  # an earlier parent died before it read the result
    context = TrainingContext(folder, lambda: bool(asked) or os.getppid() != parent)
    try:
        result = run(context)
    except Stopped:
        return STOPPED
    except SpeechpipeError as error:
        result = Result(Judgement.NO_BETTER, "", error=error.message, cause=error.cause)
    if result.error and result.cause == "no_space":
        sys.stderr.write(f"{result.error}\n")
        return STOPPED  # it can be continued when there is space
    write(folder / RESULT, _plain(result))
    return 1 if result.error else 0


def _plain(result: Result) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(result) | {"judgement": result.judgement.value}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
