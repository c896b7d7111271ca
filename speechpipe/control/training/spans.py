"""Recordings with marked spans of speech, from manifests (`audio`, `speech` = [[start, end], ...])."""

from collections.abc import Sequence
from pathlib import Path

from speechpipe.control.training.examples import manifest_lines, read_audio
from speechpipe.control.training.vad_fit import Marked
from speechpipe.errors import BadInput, SpeechpipeError


def read_marked(manifests: Sequence[Path]) -> list[Marked]:
    """Return the recordings with marked spans; lines without `speech` are skipped.

    Raises:
        BadInput: a manifest cannot be read, a recording is missing, or spans are not pairs of seconds.
    """
    found = []
    for path in manifests:
        for entry in manifest_lines(path):
            spans = entry.get("speech")
            if spans is None:
                continue
            where = path.parent / str(entry.get("audio_filepath", entry.get("audio")))
            try:
                pairs = sorted((float(start), float(end)) for start, end in spans)
                found.append(Marked(read_audio(where), pairs))
            except (TypeError, ValueError, OSError, SpeechpipeError) as error:
                raise BadInput(f"{where}: {error}") from error
    return found
