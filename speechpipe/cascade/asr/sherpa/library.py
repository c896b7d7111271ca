"""The only file that imports sherpa-onnx: makes its recognizers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import sherpa_onnx

from speechpipe.cascade.asr.sherpa.vocabulary import Vocabulary
from speechpipe.errors import BadInput

GREEDY, BEAM = "greedy_search", "modified_beam_search"


def streaming_transducer(files: dict[str, Path], kind: str, vocabulary: Vocabulary, **options: Any) -> Any:
    """Return an `OnlineRecognizer` of the files `encoder`, `decoder`, `joiner` and `tokens`.

    `kind`: the model type of the encoder's metadata. `options`: see `_search`, and `threads`.
    """
    with _search(vocabulary, **options) as search:
        return _made(
            sherpa_onnx.OnlineRecognizer.from_transducer,
            **_paths(files),
            model_type=kind,
            enable_endpoint_detection=False,  # segments end where the cascade's own VAD says
            **search,
        )


def transducer(files: dict[str, Path], kind: str, vocabulary: Vocabulary, **options: Any) -> Any:
    """Return an `OfflineRecognizer` of the files `encoder`, `decoder`, `joiner` and `tokens`.

    `kind`: `nemo_transducer` or `transducer`. `options`: see `_search`, and `threads`.
    """
    with _search(vocabulary, **options) as search:
        return _made(sherpa_onnx.OfflineRecognizer.from_transducer, **_paths(files), model_type=kind, **search)


def sense_voice(files: dict[str, Path], language: str, *, numbers: bool, threads: int) -> Any:
    """Return an `OfflineRecognizer` of the files `model` and `tokens`. `numbers`: write numbers as digits."""
    return _made(
        sherpa_onnx.OfflineRecognizer.from_sense_voice,
        **_paths(files),
        language=language,
        use_itn=numbers,
        num_threads=threads,
    )


def _paths(files: dict[str, Path]) -> dict[str, str]:
    return {role: str(path) for role, path in files.items()}


def _made(make: Any, **options: Any) -> Any:
    try:
        return make(**options)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"sherpa-onnx does not take the files: {reason}", cause="weights_broken") from error


@contextmanager
def _search(vocabulary: Vocabulary, *, beam: int, boost: float, threads: int) -> Iterator[dict[str, Any]]:
    """Give the options of a search; the ranks that the library writes hotwords by are in a file meanwhile."""
    if beam == 1:
        yield {"decoding_method": GREEDY, "num_threads": threads}
        return
    with NamedTemporaryFile("w", encoding="utf-8", suffix=".vocab") as file:
        file.write(vocabulary.ranks())
        file.flush()
        yield {
            "decoding_method": BEAM,
            "max_active_paths": beam,
            "hotwords_score": boost,
            "modeling_unit": vocabulary.unit,
            "bpe_vocab": "" if vocabulary.unit == "cjkchar" else file.name,
            "num_threads": threads,
        }
