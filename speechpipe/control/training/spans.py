"""Recordings with marked spans of speech, from manifests (`audio`, `speech` = [[start, end], ...])."""

from collections.abc import Sequence
from pathlib import Path

from speechpipe.cascade.evaluation.manifest import checked
from speechpipe.control.training.examples import manifest_lines, read_audio
from speechpipe.control.training.vad_fit import Marked
from speechpipe.errors import BadInput, SpeechpipeError, reason_of


def read_marked(manifests: Sequence[Path]) -> list[Marked]:
    """Return the recordings with marked spans; lines without `speech` are skipped.

    Raises:
        BadInput: a manifest cannot be read, a recording is missing, or spans are not pairs of seconds.
    """
    found = []
    for path in manifests:
        for place, entry in manifest_lines(path):
            spans = checked(place, entry).get("speech")
            if spans is None:
                continue
            where = path.parent / str(entry.get("audio_filepath", entry.get("audio")))
            try:
                samples = read_audio(where)
            except (ValueError, OSError, SpeechpipeError) as error:
                raise BadInput(f"{place}: {where}: {reason_of(error)}") from error
            found.append(Marked(samples, sorted((float(start), float(end)) for start, end in spans)))
    return found
