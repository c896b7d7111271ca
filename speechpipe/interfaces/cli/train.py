"""`speechpipe train`: train a recognizer from scratch."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.interfaces.cli import app

if TYPE_CHECKING:
    from speechpipe.control.training.ctc.adaptation import CtcOptions, Trained
    from speechpipe.control.training.examples import Examples

group = typer.Typer(help="Train recognizers from scratch.", no_args_is_help=True)
app.add_typer(group, name="train")


@group.command()
def ctc(
    manifests: Annotated[list[Path], typer.Argument(help="JSON lines with audio and text, or NeMo's keys.")],
    name: Annotated[str, typer.Option(help="Name of the recognizer.")] = "ctc",
    version: Annotated[str, typer.Option()] = "1.0.0",
    test: Annotated[
        list[Path] | None, typer.Option(help="Manifests to measure it on; their lines are not trained on.")
    ] = None,
    extra: Annotated[list[Path] | None, typer.Option(help="Manifests of which each epoch samples half.")] = None,
    closed: Annotated[
        bool, typer.Option("--closed", help="Recognize only the words of the manifests, in any order.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="A models folder. Default: your own.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for checkpoints; an earlier one is continued.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 45,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without improvement before it stops.")] = 12,
    rate: Annotated[float, typer.Option(min=1e-6, max=1.0)] = 3e-3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    most_s: Annotated[float, typer.Option(min=0.1, help="Longer clips are left out.")] = 20.0,
    licence: Annotated[str, typer.Option(help="Licence of the weights. Default: that of the data.")] = "",
    description: Annotated[str, typer.Option()] = "",
) -> None:
    """Train a CTC recognizer; write its weights, and a card with data, figures and licence.

    After an interruption (Ctrl-C, a full disk), the same command continues from the last epoch.
    """
    from speechpipe.cascade.asr.acoustic import NetworkConfig
    from speechpipe.cascade.catalog.cards import check_name
    from speechpipe.control.training.examples import read_examples
    from speechpipe.errors import InvalidParameter
    from speechpipe.interfaces.cli.options import settings

    check_name(name, "--name")
    check_name(version, "--version")
    if device not in ("cpu", "cuda"):
        raise InvalidParameter(f"device must be cpu or cuda, not {device!r}", param="device")
    config = NetworkConfig()
    found = read_examples(manifests, config.alphabet, most_s=most_s, held_out=test or []).needed(10)
    if found.refused:
        typer.echo(f"left out: {found.said()}", err=True)
    from speechpipe.control.training.ctc.adaptation import CtcOptions  # takes seconds, before which errors are said
    from speechpipe.control.training.ctc.training import TrainOptions

    options = CtcOptions(
        TrainOptions(epochs=epochs, rate=rate, patience=patience, seed=seed, device=device),
        config,
        words=sorted({word for item in found for word in item.text.split()}) if closed else (),
        extra=read_examples(extra, config.alphabet, most_s=most_s).items if extra else (),
    )
    own = settings()
    folder = work or own.state_dir / "train" / f"{name}-{version}"
    done = _train(found, folder, options)
    tested = read_examples(test, config.alphabet, most_s=most_s).needed() if test else None
    _card(name, version, done, found, tested, options, (out or own.own_models_dir, licence, description))


def _train(found: "Examples", folder: Path, options: "CtcOptions") -> "Trained":
    import signal

    from speechpipe.control.training.ctc.adaptation import train
    from speechpipe.control.training.ctc.training import Progress
    from speechpipe.control.training.examples import split
    from speechpipe.interfaces.cli.progress import bar

    learnt, validation = split(found.items, 0.1, options.train.seed)
    asked: list[int] = []
    before = {number: signal.signal(number, lambda n, _: asked.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    said = -1  # epochs already printed; a continued training does not print earlier ones again
    with bar() as show:

        def on_progress(progress: Progress, batch: int, batches: int) -> None:
            nonlocal said
            epochs = progress.epochs
            if said < 0:
                said = len(epochs) - (batch == 0)
            if len(epochs) > said:
                said, last = len(epochs), epochs[-1]
                sys.stderr.write(f"epoch {last.number + 1}: loss {last.loss:.3f}, validation {last.errors:.1%}\n")
            best = f", best {progress.best.errors:.1%}" if epochs else ""
            show(f"epoch {len(epochs) + 1}{best}", (len(epochs) + batch / batches) / options.train.epochs)

        done = train(learnt, validation, folder, options, on_progress, lambda: bool(asked))
    for number, handler in before.items():
        signal.signal(number, handler)
    if done.progress.stopped == "stopped":
        typer.echo("stopped: run the same command to continue", err=True)
        raise typer.Exit(130)
    typer.echo(f"{done.progress.stopped}; the best epoch was {done.progress.best.number + 1}", err=True)
    return done


def _card(
    name: str,
    version: str,
    done: "Trained",
    found: "Examples",
    tested: "Examples | None",
    options: "CtcOptions",
    said: tuple[Path, str, str],
) -> None:
    from speechpipe.cascade.catalog.bundles import Catalogue
    from speechpipe.cascade.catalog.cards import OptionSpec, shipped_models
    from speechpipe.cascade.evaluation.scores import rate
    from speechpipe.control.training.candidate import Described, place
    from speechpipe.control.training.ctc.adaptation import LEXICON, WEIGHTS, errors_on

    out, licence, description = said
    metrics: dict[str, float] = {"epochs": len(done.progress.epochs), "validation_wer": done.progress.best.errors}
    if tested is not None and (wer := rate(errors_on(done.folder, tested.items, options))) is not None:
        metrics |= {"wer": wer.value, "wer_low": wer.low, "wer_high": wer.high, "test_examples": len(tested)}
        typer.echo(f"word error rate {wer} on {len(tested)} examples")
    files = {"weights": done.folder / WEIGHTS} | ({"lexicon": done.folder / LEXICON} if options.words else {})
    card = Described(
        name=name,
        version=version,
        implementation="ctc",
        description=description or f"A character CTC network trained on {len(found)} examples.",
        source="speechpipe train ctc",
        licence=licence or ", ".join(sorted(found.licences)),
        languages=["en"],
        files=files,
        options={"threads": OptionSpec(1, 1, 64), "device": OptionSpec("auto")},
        data={
            "examples": len(found),
            "extra": len(options.extra),
            "seconds": round(sum(item.duration_s for item in found), 1),
            "speakers": ", ".join(sorted(found.speakers)),
            "refused": found.said(),
            "licences": ", ".join(sorted(found.licences)),
            "seed": options.train.seed,
        },
        metrics={key: round(value, 5) for key, value in metrics.items()},
    )
    path = place(card, out, Catalogue([shipped_models(), out]))
    typer.echo(f"{path}")
