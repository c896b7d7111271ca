"""Bundles for tests: variants of the scripted one, written as cards of one's own."""

from pathlib import Path

CARD = """kind = "bundle"
name = "{name}"
version = "{version}"
description = "for tests"
languages = ["*"]

[vad]
card = "{vad}"
{segmenter}
[asr]
card = "{asr}"
options = {{ {options} }}
"""


def write(folder: Path, name: str, options: str = "", threshold: float = 0.0, **other: str) -> Path:
    """Write a card; a threshold of 0 is the default one."""
    folder.mkdir(parents=True, exist_ok=True)
    segmenter = f"[vad.segmenter]\nthreshold = {threshold}\n" if threshold else ""
    values = {"vad": "silero", "asr": "scripted", "version": "1.0.0"} | other
    path = folder / f"{name}.toml"
    path.write_text(CARD.format(name=name, segmenter=segmenter, options=options, **values))
    return path
