"""Collection of training data: reviews and their audio, copied so that retention cannot delete them meanwhile."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.control.review import training_manifest
from speechpipe.control.review.tasks import Kind as SegmentKind
from speechpipe.control.review.tasks import Task
from speechpipe.control.training import REVIEWS, Kind, Request
from speechpipe.control.training.job_spec import ORDER, Order, write_order
from speechpipe.errors import BadInput, InvalidParameter
from speechpipe.types import Bundle

IMPLEMENTATIONS = {Kind.CTC: "ctc", Kind.LM: "pocketsphinx"}
MANIFEST = "reviews.jsonl"


def recipe_for(bundle: Bundle) -> Kind | None:
    """Return how the recognizer of a bundle is retrained; None if it cannot be."""
    return next((kind for kind, name in IMPLEMENTATIONS.items() if name == bundle.asr.implementation), None)


def checked(request: Request, catalogue: Catalogue) -> Bundle:
    """Return the bundle to retrain, after checking that it can be.

    Raises:
        UnknownName: there is no such bundle.
        InvalidParameter: its recognizer cannot be trained in this way.
        BadInput: files of the bundle, or a manifest, are missing.
    """
    bundle = catalogue.bundle(request.bundle)
    wanted = IMPLEMENTATIONS.get(request.kind)
    if wanted is not None and bundle.asr.implementation != wanted:
        message = f"{bundle.id} has the recognizer {bundle.asr.name} ({bundle.asr.implementation}): expected {wanted}"
        raise InvalidParameter(message, param="kind", cause="no_recipe")
    if problems := catalogue.problems(bundle):
        raise BadInput(f"{bundle.id} is not verified: {problems[0]}", cause="bundle_unverified")
    paths = [request.check, request.replay, request.pronunciations, request.plan]
    for path in (*paths, *([request.source] if request.source != REVIEWS else [])):
        if path and not Path(path).is_file():
            raise BadInput(f"{path}: there is no such file", cause="not_found")
    return bundle


def prepare(request: Request, bundle: Bundle, tasks: Iterable[Task], audio: Path, folder: Path) -> int:
    """Write the job spec and the reviews to learn from into `folder`; return the number of manifest lines.

    If the folder has a job spec it is left unchanged (-1), so that a resumed training uses the same data.

    Raises:
        BadInput: there are no reviews to learn from.
        OSError: a file cannot be written.
    """
    if (folder / ORDER).exists():
        return -1
    folder.mkdir(parents=True, exist_ok=True)
    count = -1
    source = str(Path(request.source).resolve()) if request.source != REVIEWS else MANIFEST
    if request.source == REVIEWS:
        lines = list(_reviewed(request, tasks, audio, folder / "audio"))
        count = len(lines)
        if not lines:
            raise BadInput(f"there are no reviews with audio to retrain {bundle.id} from", cause="too_few_reviews")
        (folder / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    check, replay, spoken = (
        str(Path(path).resolve()) if path else "" for path in (request.check, request.replay, request.pronunciations)
    )
    order = Order(
        request.kind,
        bundle.asr,
        bundle.vad,
        bundle.segmenter,
        [source],
        [check] if check else [],
        [replay] if replay else [],
        spoken,
        request.seed,
    )
    write_order(folder, order)
    return count


def _reviewed(request: Request, tasks: Iterable[Task], audio: Path, copies: Path) -> Iterator[dict[str, Any]]:
    for task in tasks:
        path = audio / f"{task.id}.flac"
        if not path.is_file() or (request.tenant and task.tenant != request.tenant):
            continue
        if request.kind is Kind.VAD:
            if (line := _marked(task, copies / path.name)) is None:
                continue
            lines = [line]
        else:
            lines = list(training_manifest.lines(task, str(copies / path.name)))
        if lines:
            _copy(path, copies / path.name)
            yield from lines


def _marked(task: Task, audio: Path) -> dict[str, Any] | None:
    """Return the spans of speech of a task, if a reviewer has answered the whole session; else None."""
    if not task.work or not all(piece.needs for piece in task.draft.pieces):
        return None
    spans = [[said.start_s, said.end_s] for said in task.work if said.kind is not SegmentKind.NO_SPEECH]
    return {"audio": str(audio), "duration": task.duration_s, "speech": spans}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    try:
        os.link(source, target)  # safe: audio of reviews is never changed, only deleted
    except OSError:
        shutil.copyfile(source, target)
