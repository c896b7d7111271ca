"""Reviews, policies and answered jobs as plain data for JSON."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from speechpipe.cascade.evaluation.captions import Cue, srt, vtt
from speechpipe.control.review.comparison import People, Standing
from speechpipe.control.review.estimates import Rate
from speechpipe.control.review.job_repository import Job
from speechpipe.control.review.operations import segments
from speechpipe.control.review.policy_repository import Entry, Scoped
from speechpipe.control.review.sampling import shown
from speechpipe.control.review.tasks import Task
from speechpipe.serving.automation import Author

TEXTS = ("text", "srt", "vtt")


def answer(job: Job, tasks: Sequence[Task], write: Callable[[str], str] = str) -> dict[str, Any]:
    """Return an answered job: its segments in order of time, each with its author.

    `write` returns a text as the client asked for it.
    """
    found = [
        segment | {"text": write(segment["text"]), "channel": channel, "id": f"{task.id}-{number}"}
        for channel, task in enumerate(tasks)
        for number, segment in enumerate(segments(task))
    ]
    found.sort(key=lambda segment: (segment["start"], segment["channel"]))
    authors = {segment["author"] for segment in found if segment["text"]}
    return {
        "id": job.id,
        "bundle": job.document["bundle"],
        "degree": job.document["degree"],
        "author": authors.pop() if len(authors) == 1 else Author.BOTH if authors else Author.HUMAN,
        "text": " ".join(segment["text"] for segment in found if segment["text"]),
        "duration": round(max((task.duration_s for task in tasks), default=0.0), 4),
        "segments": found,
    }


def captioned(job: Job, found: Mapping[str, Any]) -> str | None:
    """Return the answer as plain text or captions; None if another format was requested."""
    wanted = job.document["format"]
    if wanted not in TEXTS:
        return None
    if wanted == "text":
        return f"{found['text']}\n"
    cues = [Cue(segment["start"], segment["end"], segment["text"]) for segment in found["segments"] if segment["text"]]
    return srt(cues) if wanted == "srt" else vtt(cues)


def transcription(job: Job, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer as OpenAI's transcription object, with `segments` for `verbose_json`."""
    details = {key: found[key] for key in ("id", "bundle", "degree", "author", "segments")}
    document: dict[str, Any] = {"text": found["text"], "speechpipe": details}
    if job.document["format"] == "verbose_json":
        rows = [
            {"id": number, "start": segment["start"], "end": segment["end"], "text": segment["text"]}
            for number, segment in enumerate(found["segments"])
            if segment["text"]
        ]
        language = {"en": "english"}.get(job.document["language"], job.document["language"])
        document |= {"task": "transcribe", "language": language, "duration": found["duration"], "segments": rows}
    return document


def task(item: Task, doubt: float) -> dict[str, Any]:
    """Return a task as its reviewer sees it."""
    work = [
        {"start": said.start_s, "end": said.end_s, "text": said.text, "kind": said.kind, "of": list(said.of)}
        for said in item.work
    ]
    return {
        "id": item.id,
        "lease": item.lease,
        "leased_until": item.leased_until,
        "reviewer": item.reviewer,
        "degree": item.degree,
        "why": item.why,
        "blind": item.draft.blind,
        "state": item.state,
        "duration": item.duration_s,
        "channel": item.channel,
        "created_at": item.created_at,
        "waited_for": bool(item.job),
        "segments": shown(item.draft, doubt),
        "work": work,
        "work_s": item.work_s,
        "audio_sha256": item.audio_hash,
    }


def row(item: Task) -> dict[str, Any]:
    """Return a task as a row of a list, without any text."""
    names = ("id", "state", "why", "degree", "channel", "bundle", "tenant", "reviewer", "priority", "created_at")
    found = {name: getattr(item, name) for name in names}
    return found | {"duration": item.duration_s, "waited_for": bool(item.job), "skips": list(item.skips)}


def policy(scope: str, item: Scoped) -> dict[str, Any]:
    """Return the policy of a scope."""
    return {"scope": scope, "revision": item.revision, "changed_at": item.changed_at, **item.policy.document()}


def entry(item: Entry) -> dict[str, Any]:
    """Return an entry of the automation history."""
    names = ("scope", "revision", "at", "actor", "action", "degree", "was", "reason")
    return {name: getattr(item, name) for name in names}


def rate(item: Rate) -> dict[str, Any]:
    """Return a rate with its interval."""
    return {"value": item.value, "low": item.low, "high": item.high, "reviewed": item.reviewed}


def people(item: People) -> dict[str, Any]:
    """Return the statistics of all reviews."""
    return {
        "waiting": {state: dict(by) for state, by in item.waiting.items()},
        "reviewed_audio_s": item.reviewed_audio_s,
        "work_s": item.work_s,
        "work_per_audio": item.work_per_audio,
        "reviewers": dict(item.reviewers),
        "bundles": [standing(one) for one in item.standings],
    }


def standing(item: Standing) -> dict[str, Any]:
    """Return the review statistics of a bundle."""
    promised = item.promise
    return {
        "bundle": item.bundle,
        "reviews": item.reviews,
        "segments": item.units,
        "wer": rate(item.wer),
        "wer_blind": rate(item.blind),
        "edits": dict(item.edits),
        "agreement": [{"day": day, **rate(found)} for day, found in item.agreement],
        "confusions": [{"said": said, "heard": heard, "count": count} for said, heard, count in item.confusions],
        "unintelligible": item.unintelligible,
        "calibration": {
            "error_before": item.error_before,
            "error_after": item.error_after,
            "steps": [list(pair) for pair in zip(item.calibration.edges, item.calibration.levels, strict=True)],
        },
        "partial": {
            "threshold": promised.threshold,
            "bound": promised.bound,
            "confidence": 1 - promised.delta,
            "share": promised.share,
            "error": promised.error,
            "high": promised.high,
            "reviewed": promised.reviewed,
        },
    }
