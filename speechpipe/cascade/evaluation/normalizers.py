"""Normalizers of texts for scoring, by name. Only `speechpipe evaluate` uses them; sessions and reviews do not.

`english` and `basic` are those of Whisper's paper (Radford et al., 2022, "Robust Speech Recognition via Large-Scale
Weak Supervision", appendix C), from the package `whisper-normalizer`. `english` makes numbers digits, writes
contractions out, spells as in the USA, and leaves out hesitations and what stands in brackets.
"""

from collections.abc import Sequence

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from speechpipe.cascade.evaluation.scores import Normalizer

ENGLISH, BASIC, NONE = "english", "basic", "none"


def default_for(languages: Sequence[str]) -> str:
    """Return `english` for a bundle that knows no other language, else `basic`."""
    english = bool(languages) and all(language.lower().split("-")[0] == "en" for language in languages)
    return ENGLISH if english else BASIC


def normalizer(name: str) -> Normalizer | None:
    """Return the function of this name; None for `none`. Thread-safe."""
    if name == NONE:
        return None
    found: Normalizer = EnglishTextNormalizer() if name == ENGLISH else BasicTextNormalizer()
    return found
