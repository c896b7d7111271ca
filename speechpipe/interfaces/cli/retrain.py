"""`speechpipe retrain`: from reviewed sessions to a new version, whose rollout starts in shadow."""

import getpass
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import StoreOption

if TYPE_CHECKING:
    from speechpipe.control.training import Job
    from speechpipe.control.training.operations import TrainingOperations
    from speechpipe.control.training.runner import Run

group = typer.Typer(help="Retraining by hand, and the list of all retrainings.", no_args_is_help=True)
app.add_typer(group, name="retrain")

SourceOption = Annotated[str, typer.Option("--from", help="reviews, or a manifest (JSON lines: audio, text).")]
BundleOption = Annotated[str, typer.Option("--bundle", "-b", help="The bundle to retrain. Default: the champion.")]
TenantOption = Annotated[str, typer.Option(help="Only reviews of this tenant.")]
SinceOption = Annotated[str, typer.Option(help="Only reviews since: 2026-11-23T10:00 (UTC), or an age: 30d.")]
CheckOption = Annotated[str, typer.Option(help="A manifest of speech that must not get worse.")]
DetachOption = Annotated[bool, typer.Option("--detach", "-d", help="Let the running server do it.")]
SeedOption = Annotated[int, typer.Option(min=0)]
ReasonOption = Annotated[str, typer.Option("--reason", "-r", help="Why.")]

POLL_S = 0.3


def _operations(store: str) -> "TrainingOperations":
    from speechpipe.app import compose, training_operations
    from speechpipe.control.rollout.operations import RolloutOperations
    from speechpipe.control.rollout.service import verified
    from speechpipe.control.rollout.speech_guards import GUARDS
    from speechpipe.foundation.storage.store import Store
    from speechpipe.interfaces.cli.options import settings
    from speechpipe.interfaces.cli.watching import store_settings

    opened = Store(store_settings(store, create=True).record_store_url)
    service = compose(settings())
    rollouts = RolloutOperations(opened, GUARDS, lambda name: verified(service, name))
    return training_operations(service, lambda act: act(rollouts), opened)


def _champion(store: str) -> str:
    from speechpipe.interfaces.cli.options import settings
    from speechpipe.interfaces.cli.rollout import rollout_operations

    return rollout_operations(store, create=True).state().champion or settings().bundle


@group.command()
def lm(
    source: SourceOption = "reviews",
    bundle: BundleOption = "",
    tenant: TenantOption = "",
    since: SinceOption = "",
    check: CheckOption = "",
    pronunciations: Annotated[str, typer.Option(help="A file of words and their phones, as in the dictionary.")] = "",
    seed: SeedOption = 0,
    detach: DetachOption = False,
    reason: ReasonOption = "",
    store: StoreOption = "",
) -> None:
    """Adapt PocketSphinx's language model and dictionary to reviewed texts."""
    _ask("lm", source, bundle, tenant, since, check, "", pronunciations, seed, detach, reason, store)


@group.command()
def ctc(
    source: SourceOption = "reviews",
    bundle: BundleOption = "",
    tenant: TenantOption = "",
    since: SinceOption = "",
    check: CheckOption = "",
    replay: Annotated[str, typer.Option(help="A manifest of earlier training data, which is mixed in.")] = "",
    seed: SeedOption = 0,
    detach: DetachOption = False,
    reason: ReasonOption = "",
    store: StoreOption = "",
) -> None:
    """Adapt a CTC recognizer to reviewed segments, and add unknown words to its lexicon."""
    _ask("ctc", source, bundle, tenant, since, check, replay, "", seed, detach, reason, store)


@group.command()
def vad(
    source: SourceOption = "reviews",
    bundle: BundleOption = "",
    tenant: TenantOption = "",
    since: SinceOption = "",
    detach: DetachOption = False,
    reason: ReasonOption = "",
    store: StoreOption = "",
) -> None:
    """Fit the segmenter's parameters for a VAD to marked spans (a manifest's `speech`), by cross-validation."""
    _ask("vad", source, bundle, tenant, since, "", "", "", 0, detach, reason, store)


def _ask(
    kind: str,
    source: str,
    bundle: str,
    tenant: str,
    since: str,
    check: str,
    replay: str,
    pronunciations: str,
    seed: int,
    detach: bool,
    reason: str,
    store: str,
) -> None:
    from speechpipe.control.training import REVIEWS, Kind, Request
    from speechpipe.interfaces.cli.watching import moment

    def whole(path: str) -> str:
        return str(Path(path).resolve()) if path else ""

    request = Request(
        Kind(kind),
        bundle or _champion(store),
        source if source == REVIEWS else whole(source),
        tenant,
        moment(since) if since else 0.0,
        whole(check),
        whole(replay),
        whole(pronunciations),
        seed,
        getpass.getuser(),
        reason,
    )
    operations = _operations(store)
    job = operations.ask(request, "" if detach else _owner())
    typer.echo(f"retraining {job.id} of {job.request.bundle}" + (": left to the server" if detach else ""), err=True)
    if not detach:
        _work(operations, job)


def _owner() -> str:
    return f"{os.uname().nodename}:{os.getpid()}"


def _work(operations: "TrainingOperations", job: "Job") -> None:
    from speechpipe.control.training import State
    from speechpipe.errors import SpeechpipeError

    try:
        run = operations.begin(job)
    except (SpeechpipeError, OSError) as error:
        operations.fail(job, error)
        raise
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: run.stop())
    done = _follow(operations, job, run)
    _say(done)
    if done.state is State.STOPPED:
        typer.echo(f"speechpipe retrain resume {job.id} continues it", err=True)
    raise typer.Exit(0 if done.state is State.DONE else 1)


def _follow(operations: "TrainingOperations", job: "Job", run: "Run") -> "Job":
    from speechpipe.control.training import State
    from speechpipe.interfaces.cli.progress import bar

    beat_at = 0.0
    with bar() as show:
        while (ended := run.poll()) is None:
            found = run.progress
            show(str(found.get("what", "starting")), float(found.get("share", 0.0)))
            if time.monotonic() - beat_at > 3.0:
                beat_at = time.monotonic()
                if operations.jobs.beat(job).state is not State.RUNNING:
                    run.stop()
            time.sleep(POLL_S)
    return operations.end(job, ended, run.seconds)


@group.command("list")
def list_(
    store: StoreOption = "", as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False
) -> None:
    """List retrainings with their requesters and results, newest first."""
    from speechpipe.control.training.documents import row

    jobs = _operations(store).jobs.listed()
    if as_json:
        typer.echo(json.dumps([row(job) for job in jobs]))
        return
    if not jobs:
        typer.echo("there are no retrainings")
    for job in jobs:
        _say(job)


@group.command()
def stop(number: Annotated[int, typer.Argument()], reason: ReasonOption = "", store: StoreOption = "") -> None:
    """Stop a retraining; it keeps its last checkpoint."""
    _say(_operations(store).jobs.stop(number, getpass.getuser(), reason))


@group.command()
def resume(number: Annotated[int, typer.Argument()], detach: DetachOption = False, store: StoreOption = "") -> None:
    """Continue a retraining that was stopped or has failed."""
    operations = _operations(store)
    if detach:
        _say(operations.jobs.again(number, getpass.getuser()))
        return
    _work(operations, operations.jobs.claim(operations.jobs.job(number), _owner()))


@group.command()
def policy(file: Annotated[Path, typer.Argument(help="A policy, as TOML.")]) -> None:
    """Check a policy and print it with all defaults. SPEECHPIPE_RETRAIN_POLICY gives its path to the server."""
    from dataclasses import asdict

    from speechpipe.control.training.policy import read_policy

    found = read_policy(file)
    for name, value in asdict(found).items():
        typer.echo(f"{name} = {json.dumps(value)}")


def _say(job: "Job") -> None:
    from speechpipe.control.training.documents import row

    found = row(job)
    said = [f"{found['id']} {found['kind']} of {found['bundle']}: {found['state']}", found["reason"]]
    if found["candidate"]:
        said += [f"{found['candidate']} ({found['judgement']}), rollout: {found['rollout']}"]
    sys.stdout.write("\n  ".join(line for line in said if line) + "\n")
