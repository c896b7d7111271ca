"""A forked process of the command line is like a fresh one."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import preloaded
from tests.patience import PATIENCE_S, until
from tests.sounds import SAMPLES

WAITS = ("automation", "tenant")
"""A command that waits for its standard input."""

Start = Callable[..., "subprocess.Popen[Any]"]


def fresh(*arguments: str, **options: Any) -> "subprocess.Popen[Any]":
    return subprocess.Popen([*preloaded.COMMAND, *arguments], **options)


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPEECHPIPE_TEST_PRELOADED", raising=False)


@pytest.fixture
def waiting() -> Iterator["subprocess.Popen[bytes]"]:
    pipe = subprocess.PIPE
    with preloaded.start(*WAITS, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        yield process
        process.kill()


def ended(start: Start, *arguments: str, **options: Any) -> tuple[int, str, str]:
    with start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        said, errors = process.communicate(timeout=PATIENCE_S)
    return process.returncode, said, errors


@pytest.mark.parametrize(
    "arguments", [("bundles", "list"), ("bundles", "show", "nope"), ("evaluate", "--nope"), ()], ids=" ".join
)
def test_exit_codes_and_both_outputs_are_those_of_a_fresh_process(arguments: tuple[str, ...]) -> None:
    assert ended(preloaded.start, *arguments) == ended(fresh, *arguments)


def test_nothing_but_the_given_environment_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**os.environ, "SPEECHPIPE_PORT": "abc"}
    code, _, said = ended(preloaded.start, "doctor", env=given)
    assert (code, "SPEECHPIPE_PORT" in said) == (2, True)
    monkeypatch.setenv("SPEECHPIPE_PORT", "abc")
    assert ended(preloaded.start, "bundles", "list")[0] == 2, "without one given, it is that of the tests"
    del given["SPEECHPIPE_PORT"]
    assert ended(preloaded.start, "bundles", "list", env=given)[0] == 0


def test_what_libraries_read_at_import_makes_it_a_real_process(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('customised')\n")
    path = os.pathsep.join([str(tmp_path), str(preloaded.ROOT)])
    code, said, _ = ended(preloaded.start, "--version", env={**os.environ, "PYTHONPATH": path})
    assert (code, said.startswith("customised\n")) == (0, True)


def test_it_works_where_it_is_told_to() -> None:
    words = ("transcribe", "silence.flac", "--bundle", "scripted", "--workers", "1")
    assert ended(preloaded.start, *words, cwd=SAMPLES)[0] == 0
    assert ended(preloaded.start, *words, cwd=SAMPLES.parent)[0] == 1


def test_it_reads_its_standard_input(waiting: "subprocess.Popen[bytes]") -> None:
    said, _ = waiting.communicate(b"a key\n", PATIENCE_S)
    assert (waiting.returncode, len(said.split())) == (0, 1)


def test_a_signal_that_ends_it_is_told(waiting: "subprocess.Popen[bytes]") -> None:
    assert waiting.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.01)
    waiting.terminate()
    assert waiting.wait(PATIENCE_S) == waiting.poll() == -signal.SIGTERM
    waiting.kill()  # it is gone, and this is no error
    assert not psutil.pid_exists(waiting.pid)


def test_ctrl_c_is_the_programs_to_handle(waiting: "subprocess.Popen[bytes]") -> None:
    until(lambda: psutil.Process(waiting.pid).status() == psutil.STATUS_SLEEPING)
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=PATIENCE_S)
    assert (waiting.returncode, said) == (130, b"")


def descriptors(pid: int) -> set[str]:
    return {path.name for path in Path(f"/proc/{pid}/fd").iterdir()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_it_has_the_standard_streams_and_no_other_descriptor(waiting: "subprocess.Popen[bytes]") -> None:
    with preloaded.start(*WAITS, stdin=subprocess.PIPE) as other:
        until(lambda: descriptors(waiting.pid) == descriptors(other.pid) == {"0", "1", "2"})
        other.kill()


@pytest.mark.parametrize("apart", [False, True])
def test_it_is_in_a_session_of_its_own_where_that_is_asked_for(apart: bool) -> None:
    with preloaded.start(*WAITS, stdin=subprocess.PIPE, start_new_session=apart) as process:
        until(lambda: not apart or os.getsid(process.pid) == process.pid)
        assert os.getsid(process.pid) == (process.pid if apart else os.getsid(0))
        assert os.getpgid(process.pid) == (process.pid if apart else os.getpgid(0))
        process.kill()


def test_when_the_helper_has_ended_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preloaded, "HELPER", preloaded.Helper())  # that of the other tests goes on
    with preloaded.start(*WAITS, stdin=subprocess.PIPE) as process:
        helper = psutil.Process(process.pid).parent()
        assert helper is not None
        helper.kill()
        with pytest.raises(RuntimeError, match="has ended"):
            process.wait(PATIENCE_S)
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
    preloaded.HELPER.end()
