"""Bundles of the scripted recognizer with options of their own, for servers in tests."""

from pathlib import Path

_CARD = """
kind = "bundle"
name = "{name}"
version = "1"
description = "The scripted recognizer, {name}."
languages = ["*"]
[vad]
card = "silero"
[asr]
card = "scripted"
options = {{ {options} }}
"""


def scripted_bundle(folder: Path, name: str, options: str) -> dict[str, str]:
    """Write the bundle's card into `folder`; return the settings of a server that serves it.

    Args:
        folder: the server's folder of cards.
        name: of the bundle.
        options: of the recognizer, as TOML: `cost = 0.2`.
    """
    (folder / f"{name}.toml").write_text(_CARD.format(name=name, options=options))
    return {"bundle": name, "models_dir": str(folder)}
