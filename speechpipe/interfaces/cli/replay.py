"""`speechpipe replay`: processes the same audio again with old and new stages, to attribute a change."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import BundleOption, SetOption, WorkersOption

if TYPE_CHECKING:
    from speechpipe.cascade.evaluation.manifest import Clip
    from speechpipe.serving.service import Service


LOWEST = 19
"""The lowest priority, so that live audio is not affected."""

PATIENCE_S = 600.0


@app.command()
def replay(
    reference: Annotated[
        Path | None, typer.Option(help="Recordings from before the change: a manifest or a folder.", exists=True)
    ] = None,
    incident: Annotated[
        Path | None, typer.Option(help="Recordings from the incident, likewise. Default: the kept audio.", exists=True)
    ] = None,
    bundle: BundleOption = "default",
    now: Annotated[str, typer.Option(help="The bundle that runs now. Default: the same.")] = "",
    set_: SetOption = None,
    against_record: Annotated[
        bool, typer.Option(help="Instead: process the kept audio again and compare with its records.")
    ] = False,
    store: Annotated[str, typer.Option(help="The store with the records. Default: that of the settings.")] = "",
    most: Annotated[int, typer.Option(min=1, help="The most recordings of each kind.")] = 50,
    workers: WorkersOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Print how much of a change is due to the input, the VAD and the recognizer: exact Shapley values.

    `--set` changes parameters of the bundle that runs now, for instance `--set vad.threshold=0.9`.
    """
    from speechpipe.app import compose
    from speechpipe.cascade.catalog.factories import catalogue as catalogue_of
    from speechpipe.errors import InvalidParameter
    from speechpipe.interfaces.cli.options import parse_set, settings
    from speechpipe.interfaces.cli.weights import fetch_missing
    from speechpipe.serving.health.replay import swapped

    config = settings(bundle=bundle, workers=workers, worker_nice=LOWEST, segment_timeout_s=PATIENCE_S)
    catalogue = catalogue_of(config)
    fetch_missing(config, catalogue, [catalogue.bundle(name) for name in (bundle, now or bundle)])
    with compose(config) as service:
        if against_record:
            _against_record(service, store, most, as_json=as_json)
            return
        if reference is None:
            raise InvalidParameter("--reference is needed", param="reference")
        pinned = service.engine.bundle(bundle)
        current = service.engine.bundle(now or bundle, parse_set(set_))
        found = swapped(
            service,
            _clips(reference)[:most],
            _clips(incident or service.engine.kept_audio.folder)[:most],
            pinned,
            current,
        )
    if as_json:
        typer.echo(json.dumps({**asdict(found), "blamed": found.blamed}))
        return
    typer.echo(f"{found.metric}: {found.then:.3f} then, {found.now:.3f} now; blamed: {found.blamed}")
    for share in found.shares:
        typer.echo(f"  {share.player:6s} {share.value:+.3f} [{share.low:+.3f}, {share.high:+.3f}]")


def _clips(path: Path) -> "list[Clip]":
    from speechpipe.cascade.evaluation.manifest import read_manifest
    from speechpipe.errors import BadInput

    if path.is_file():
        return read_manifest(path)
    files = sorted(path.glob("*.flac"), key=lambda file: file.stat().st_mtime) if path.exists() else []
    if not files:
        raise BadInput(f"there is no audio in {path}: see SPEECHPIPE_KEEP_AUDIO_HOURS", cause="not_found")
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as manifest:
        manifest.writelines(json.dumps({"audio": str(file.resolve())}) + "\n" for file in files)
        manifest.flush()
        return read_manifest(Path(manifest.name))


def _against_record(service: "Service", store: str, most: int, *, as_json: bool) -> None:
    from speechpipe.errors import BadInput
    from speechpipe.foundation.storage.store import Store
    from speechpipe.interfaces.cli.watching import store_settings
    from speechpipe.serving.health.replay import against_record

    records = Store(store_settings(store, create=True).record_store_url)
    sessions = []
    for clip in _clips(service.engine.kept_audio.folder)[-most:]:
        found = records.find(session_id=Path(clip.name).stem)
        units = [record for record in found if record.kind == "unit"]
        if any(record.kind == "session" and record.bundle == service.engine.champion.name for record in found):
            sessions.append((clip, units))
    records.close()
    if not sessions:
        raise BadInput("none of the kept audio has records of this bundle", cause="not_found")
    result = against_record(service, service.engine.champion, sessions)
    if as_json:
        typer.echo(json.dumps({**asdict(result), "blamed": result.blamed}))
    else:
        typer.echo(f"{len(result.different)} of {result.sessions} sessions differ from their records: {result.blamed}")
