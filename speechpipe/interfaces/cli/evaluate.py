"""`speechpipe evaluate`: error rates of a bundle on labelled audio."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import AsrOption, BundleOption, NormalizerName, SetOption, VadOption, WorkersOption

if TYPE_CHECKING:
    from speechpipe.cascade.evaluation.scores import Errors, Normalizer, VadScore
    from speechpipe.serving.service import Service
    from speechpipe.serving.transcription.transcriber import Result
    from speechpipe.types import Bundle


@dataclass
class _Tally:
    normalizer: str
    by: "Normalizer | None"
    words: "list[Errors]" = field(default_factory=list)
    normalized_words: "list[Errors]" = field(default_factory=list)
    characters: "list[Errors]" = field(default_factory=list)
    oracle_words: "list[Errors]" = field(default_factory=list)
    normalized_oracle_words: "list[Errors]" = field(default_factory=list)
    vad: "list[VadScore]" = field(default_factory=list)
    segments: int = 0
    nulls: int = 0
    audio_s: float = 0.0
    wall_s: float = 0.0
    failed: int = 0


@app.command()
def evaluate(
    manifest: Annotated[
        Path, typer.Argument(help="JSON lines: `audio`, `text` and, if known, `speech` (spans in seconds).")
    ],
    bundle: BundleOption = "default",
    vad: VadOption = None,
    asr: AsrOption = None,
    set_: SetOption = None,
    workers: WorkersOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Only the first N lines; 0 = all.")] = 0,
    normalizer: Annotated[
        NormalizerName | None,
        typer.Option(help="For a second WER. Default: english for a bundle that knows only English, else basic."),
    ] = None,
) -> None:
    """Measure a bundle: WER and CER with 95 % intervals, VAD against marked spans, WER with oracle segments.

    For lines without `speech`, the oracle segment is the whole file. Case and punctuation never count; the WER is
    printed before and after the normalizer, for which "twenty" and "20", or "it's" and "it is", are the same.

    Example: speechpipe evaluate audio_samples/manifest.jsonl --bundle fast
    """
    from speechpipe.app import compose
    from speechpipe.cascade.evaluation import normalizers
    from speechpipe.errors import SpeechpipeError, reason_of
    from speechpipe.interfaces.cli.options import choose, parse_set, read_manifest, settings
    from speechpipe.interfaces.cli.progress import Progress

    rows = read_manifest(manifest)[: limit or None]
    config = settings(bundle=bundle, workers=workers) if workers else settings(bundle=bundle)
    chosen = choose(compose(config), bundle, vad, asr, parse_set(set_))
    by = str(normalizer or normalizers.default_for(chosen.languages))
    tally = _Tally(by, normalizers.normalizer(by))
    with Progress(len(rows)) as progress, compose(config, only=chosen) as service:
        for row in rows:
            try:
                with progress.file(str(row["audio"]), row.get("duration")) as advance:
                    _measure(service, chosen, row, tally, advance)
            except (SpeechpipeError, OSError) as error:
                tally.failed += 1
                progress.say(f"speechpipe: {row['audio']}: {reason_of(error)}")
    report = _report(chosen, tally, len(rows))
    typer.echo(json.dumps(report) if as_json else _text(report))
    raise typer.Exit(1 if tally.failed else 0)


def _measure(
    service: "Service", bundle: "Bundle", row: dict[str, Any], tally: _Tally, advance: Callable[[float], None]
) -> None:
    from speechpipe.cascade.evaluation.scores import character_errors, score_spans, word_errors

    result = _run(service, bundle, row["audio"], None, advance)
    tally.audio_s += result.duration_s
    tally.wall_s += result.wall_s
    tally.segments += len(result.utterances)
    tally.nulls += sum(utterance.transcript.null_cause is not None for _, utterance in result.utterances)
    spans = row.get("speech")
    if spans is not None:
        found = [(utterance.start_s, utterance.end_s) for _, utterance in result.utterances]
        tally.vad.append(score_spans([(start, end) for start, end in spans], found, result.duration_s))
    if row.get("text") is not None:
        tally.words.append(word_errors(row["text"], result.text))
        tally.characters.append(character_errors(row["text"], result.text))
        oracle_spans = tuple((start, end) for start, end in spans) if spans else ((0.0, result.duration_s),)
        oracle = _run(service, bundle, row["audio"], oracle_spans, advance)
        tally.oracle_words.append(word_errors(row["text"], oracle.text))
        if tally.by is not None:
            tally.normalized_words.append(word_errors(row["text"], result.text, tally.by))
            tally.normalized_oracle_words.append(word_errors(row["text"], oracle.text, tally.by))


def _run(
    service: "Service",
    bundle: "Bundle",
    audio: Path,
    spans: tuple[tuple[float, float], ...] | None,
    advance: Callable[[float], None],
) -> "Result":
    from speechpipe.serving.transcription.transcriber import Transcription, TranscriptionRequest

    with audio.open("rb") as file:
        transcription = Transcription(service, file, TranscriptionRequest(bundle, spans_s=spans))
        for _, utterance in transcription.run():
            advance(utterance.end_s)
        return transcription.result


def _report(bundle: "Bundle", tally: _Tally, files: int) -> dict[str, Any]:
    from speechpipe.cascade.evaluation.scores import rate, vad_summary

    rates = {
        "wer": rate(tally.words),
        "cer": rate(tally.characters),
        "wer_oracle_segments": rate(tally.oracle_words),
        "wer_normalized": rate(tally.normalized_words),
        "wer_normalized_oracle_segments": rate(tally.normalized_oracle_words),
    }
    return {
        "bundle": bundle.id,
        "files": files,
        "failed": tally.failed,
        "audio_s": round(tally.audio_s, 3),
        "normalizer": tally.normalizer,
        **{name: asdict(value) if value is not None else None for name, value in rates.items()},
        "vad": vad_summary(tally.vad) if tally.vad else None,
        "segments": tally.segments,
        "null_share": tally.nulls / tally.segments if tally.segments else None,
        "real_time_factor": tally.wall_s / tally.audio_s if tally.audio_s else None,
    }


def _text(report: dict[str, Any]) -> str:
    def interval(value: dict[str, float] | None) -> str:
        return "-" if value is None else f"{value['value']:.3f}  [{value['low']:.3f}, {value['high']:.3f}]"

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    vad = report["vad"] or {"recall": None, "false_alarm_rate": None, "boundary_error_s": None}
    by = report["normalizer"]
    normalized = (
        (f"WER, real VAD, {by}", interval(report["wer_normalized"])),
        (f"WER, oracle segments, {by}", interval(report["wer_normalized_oracle_segments"])),
    )
    lines = (
        ("bundle", report["bundle"]),
        ("files", f"{report['files']} ({report['failed']} failed), {report['audio_s']:.1f} s"),
        ("WER, real VAD", interval(report["wer"])),
        ("WER, oracle segments", interval(report["wer_oracle_segments"])),
        *(normalized if by != "none" else ()),
        ("CER, real VAD", interval(report["cer"])),
        ("VAD recall", number(vad["recall"])),
        ("VAD false alarm rate", number(vad["false_alarm_rate"])),
        ("VAD boundary error (median s)", number(vad["boundary_error_s"])),
        ("segments", str(report["segments"])),
        ("null share", number(report["null_share"])),
        ("real-time factor", number(report["real_time_factor"])),
    )
    return "\n".join(f"{name:30} {value}" for name, value in lines)
