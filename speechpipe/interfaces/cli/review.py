"""`speechpipe review`: the queue of reviews, their statistics, export and import."""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import StoreOption

group = typer.Typer(help="Reviews: queue, statistics, export and import.", no_args_is_help=True)
app.add_typer(group, name="review")


@group.command("list")
def list_(
    store: StoreOption = "", as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False
) -> None:
    """List the sessions that wait for a reviewer, most urgent first."""
    from speechpipe.control.review import TaskState
    from speechpipe.control.review import documents as review_documents
    from speechpipe.foundation.storage.database import translating_store_errors
    from speechpipe.interfaces.cli.watching import review_operations

    task_stats = review_operations(store).task_stats
    with translating_store_errors():
        counts = {state: dict(by) for state, by in task_stats.counts().items()}
        rows = [review_documents.row(task) for task in task_stats.listed([TaskState.OPEN, TaskState.LEASED])]
    if as_json:
        typer.echo(json.dumps({"counts": counts, "waiting": rows}))
        return
    typer.echo(", ".join(f"{sum(by.values())} {state}" for state, by in counts.items()))
    for row in rows:
        who = f", in review by {row['reviewer']}" if row["state"] == TaskState.LEASED else ""
        typer.echo(f"  {row['id']} {row['why']} {row['duration']:.1f} s {row['channel']} {row['bundle']}{who}")


@group.command()
def report(
    store: StoreOption = "",
    last: Annotated[str, typer.Option(help="Length of the period: 24h, 7d.")] = "90d",
    bound: Annotated[float, typer.Option(help="The mean error for which to find a threshold of *partial*.")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Print the review statistics of the bundles."""
    from speechpipe.control.review import documents as review_documents
    from speechpipe.interfaces.cli.watching import duration_s, moment, review_operations

    found = review_documents.people(review_operations(store).people(moment("") - duration_s(last), bound=bound))
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found["bundles"]:
        typer.echo("there were no reviews in that time")
    for one in found["bundles"]:
        wer, partial = one["wer"], one["partial"]
        typer.echo(f"{one['bundle']}: {one['reviews']} sessions reviewed")
        if wer["value"] is not None:
            shown = f"{wer['value']:.1%} [{wer['low']:.1%}, {wer['high']:.1%}]"
            typer.echo(f"  word error rate {shown} on {one['segments']} segments")
        errors = one["calibration"]
        if errors["error_before"] is not None:
            calibrated = f"{errors['error_before']:.3f}, calibrated {errors['error_after']:.3f}"
            typer.echo(f"  expected calibration error {calibrated}")
        if partial["threshold"] is None:
            typer.echo(f"  no confidence threshold is known above which the mean error is at most {bound:.1%}")
        else:
            typer.echo(
                f"  above a confidence of {partial['threshold']:.3f} the mean error is at most {partial['high']:.1%}:"
                f" {partial['share']:.1%} of the segments"
            )
        for row in one["confusions"][:10]:
            typer.echo(f"  {row['said'] or '(nothing)'} -> {row['heard'] or '(nothing)'}: {row['count']}")


@group.command()
def export(
    format_: Annotated[str, typer.Option("--format", help="label-studio or manifest.")] = "manifest",
    output: Annotated[Path | None, typer.Option("-o", help="Write to this file instead of standard output.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A folder to copy the audio to.")] = None,
    prefix: Annotated[str, typer.Option(help="Prefix of the names of audio files.")] = "",
    store: StoreOption = "",
) -> None:
    """Export answered reviews as a training manifest (JSON lines), or all reviews for Label Studio."""
    from speechpipe.control.review.exchange import AudioOf, exported
    from speechpipe.interfaces.cli.options import settings
    from speechpipe.interfaces.cli.watching import review_operations

    base = prefix or (f"{audio}/" if audio is not None else "")
    rows = list(exported(review_operations(store), format_, AudioOf(base, ".flac")))
    if audio is not None:
        audio.mkdir(parents=True, exist_ok=True)
        kept = settings().state_dir / "reviews"
        names = {row["id"] if format_ == "manifest" else row["data"]["speechpipe_id"] for row in rows}
        missing = 0
        for name in sorted(names):
            if (kept / f"{name}.flac").exists():
                shutil.copyfile(kept / f"{name}.flac", audio / f"{name}.flac")
            else:
                missing += 1
        if missing:
            typer.echo(
                f"the audio of {missing} reviews is not in {kept}: it was deleted, or is on another server", err=True
            )
    text = "".join(json.dumps(row) + "\n" for row in rows) if format_ == "manifest" else json.dumps(rows) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


@group.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A Label Studio export (JSON).")], store: StoreOption = ""
) -> None:
    """Import answers from Label Studio; each is imported, or refused with its cause."""
    from speechpipe.control.review.exchange import imported
    from speechpipe.control.review.task_repository import Reviewer
    from speechpipe.errors import BadInput, reason_of
    from speechpipe.foundation.text_files import MOST_LIST_BYTES, read_text
    from speechpipe.interfaces.cli.watching import review_operations

    try:
        given = json.loads(read_text(file, MOST_LIST_BYTES, cause="not_label_studio"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file}: {reason_of(error)}", cause="not_label_studio") from error
    outcome = imported(review_operations(store), given, Reviewer("label-studio"))
    typer.echo(json.dumps({"counts": dict(outcome.counts), "refused": outcome.refused}))
    if outcome.refused:
        raise typer.Exit(1)
