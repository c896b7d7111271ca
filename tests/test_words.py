"""No private word is left where a term of the field has taken its place (docs/glossary.md)."""

import functools
import io
import re
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "speechpipe"
MODULES = sorted(PACKAGE.rglob("*.py"))

GONE = {
    "desk": "operations",
    "fleet": "pool manager",
    "crew": "pool pair",
    "hub": "stream manager",
    "follower": "channel emitter",
    "lanes": "step executor",
    "ledger": "arm counts",
    "hearing": "segment decoder",
    "listened": "completed session",
    "shelf": "task statistics",
    "whoever": "the role: caller, client, operator, reviewer",
    "somebody": "the role",
    "nobody": "the role",
}
ALLOWED = {
    ("cascade/catalog/download.py", "hub"): "a model hub",
    ("cascade/catalog/factories.py", "hub"): "a model hub",
    ("cascade/catalog/sources.py", "hub"): "a model hub",
    ("config.py", "hub"): "a model hub",
    ("foundation/system.py", "hub"): "a model hub",
    ("cascade/asr/moonshine.py", "hub"): "a model hub",
    ("control/review/job_repository.py", "nobody"): "the public cause `nobody_could`",
    ("errors.py", "nobody"): "the public cause `nobody_could`",
    ("interfaces/api/review/jobs.py", "nobody"): "the public cause `nobody_could`",
    ("serving/health/operations.py", "follower"): "what follows the records of the store",
}
"""Uses in another meaning, which is the usual one."""


@functools.cache
def private_words_of(path: Path) -> set[str]:
    """Return which of `GONE` are in a module's names, texts and comments; parts of names count as words."""
    text = path.read_text()
    if not any(word in text.lower() for word in GONE):  # most modules: they need not be read token by token
        return set()
    found: set[str] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NAME, tokenize.STRING, tokenize.COMMENT):
            spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", token.string)
            found.update(re.findall(r"[a-z]+", spaced.lower()))
    return found & GONE.keys()


def test_no_private_word_is_left() -> None:
    found = {(path.relative_to(PACKAGE).as_posix(), word) for path in MODULES for word in private_words_of(path)}
    assert len(MODULES) > 300
    assert [f"{name}: {word}, better: {GONE[word]}" for name, word in sorted(found - ALLOWED.keys())] == []


def test_every_exception_is_needed() -> None:
    assert [key for key in ALLOWED if key[1] not in private_words_of(PACKAGE / key[0])] == []
