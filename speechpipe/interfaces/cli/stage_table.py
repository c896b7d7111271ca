"""The table by stage of `transcribe --stages` (and of `make demo`)."""

from rich.console import Console
from rich.table import Table

from speechpipe.serving.transcription.documents import stages
from speechpipe.serving.transcription.transcriber import Result

COLUMNS = (
    ("audio", "audio_s", ".1f"),
    ("level dBFS", "", ""),
    ("SNR dB", "", ""),
    ("speech", "", ""),
    ("segments", "segments", "d"),
    ("nulls", "nulls", "d"),
    ("VAD cpu", "vad_cpu_s", ".3f"),
    ("ASR cpu", "asr_cpu_s", ".2f"),
    ("queue", "queue_s", ".2f"),
    ("wall", "wall_s", ".2f"),
)


def print_table(results: list[tuple[str, Result]]) -> None:
    """Print a row for each file and a total; in seconds unless the column says otherwise."""
    console = Console(width=None if Console().is_terminal else 120)
    table = Table(title="What each stage did (seconds)", title_justify="left")
    table.add_column("file", overflow="fold")
    for title, _, _ in COLUMNS:
        table.add_column(title, justify="right")
    total: dict[str, float] = {}
    for file, result in results:
        values = stages(result)
        for key, value in values.items():
            total[key] = total.get(key, 0) + value
        features = result.channels[0].summary.features
        snr = "-" if features.snr_db is None else f"{features.snr_db:.0f}"
        table.add_row(file.rsplit("/", 1)[-1], *_cells(values, f"{features.level_dbfs:.0f}", snr))
    if len(results) > 1:
        table.add_section()
        total["segments"], total["nulls"] = int(total["segments"]), int(total["nulls"])
        table.add_row("total", *_cells(total, "", ""))
    console.print(table)


def _cells(values: "dict[str, float] | dict[str, float | int]", level: str, snr: str) -> list[str]:
    share = values["speech_s"] / values["audio_s"] if values["audio_s"] else 0.0
    special = {"level dBFS": level, "SNR dB": snr, "speech": f"{share:.0%}"}
    return [special[title] if title in special else format(values[key], form) for title, key, form in COLUMNS]
