"""Every way the command line ends: its exit code, and one line on standard error."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import preloaded
from tests.conftest import StartServer
from tests.interfaces.cli.test_commands import run
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES

COMMAND = [sys.executable, "-c", "from speechpipe.interfaces.cli import main; main()"]
DIGITS = str(SAMPLES / "digits.flac")


def one_line(stderr: bytes) -> str:
    """Return the only line, which is no traceback."""
    (line,) = stderr.decode().splitlines()
    assert line.startswith("speechpipe: ")
    return line


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_a_port_in_use_is_one_line(taken: socket.socket, tmp_path: Path) -> None:
    port = str(taken.getsockname()[1])
    done = run("serve", "--port", port, SPEECHPIPE_STATE_DIR=str(tmp_path))
    assert done.returncode == 2
    assert port in one_line(done.stderr)
    assert "another program" in one_line(done.stderr)
    assert done.stdout == b""


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOST", "no.such.host.invalid"),
        ("HOST", "192.0.2.1"),
        ("STATE_DIR", "/dev/null"),
        ("STATE_DIR", "/proc/speechpipe"),
        ("BUNDLE", "nope"),
        ("PRELOAD", "nope"),
        ("STORE_URL", "nonsense"),
        ("LOG_LEVEL", "loud"),
        ("API_KEYS", "[broken"),
        ("CALLBACKS", "nonsense"),
        ("CALLBACK_NETWORKS", "nonsense"),
        ("API_KEY", "secret"),
        ("METRICS_OFF", "nope"),
        ("PROBES", "/etc/passwd"),
        ("RETRAIN_POLICY", "/etc/passwd"),
        ("STORE_URL", "postgresql+asyncpg://127.0.0.1/x"),
        ("ALLOWED_HOSTS", "https://b.example.org"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_one_line(tmp_path: Path, name: str, value: str) -> None:
    variables = {"SPEECHPIPE_STATE_DIR": str(tmp_path), "SPEECHPIPE_INSECURE": "1", f"SPEECHPIPE_{name}": value}
    done = run("serve", "--port", "0", data=None, timeout_s=PATIENCE_S, **variables)
    assert done.returncode == 2
    assert f"SPEECHPIPE_{name}" in one_line(done.stderr)


@pytest.mark.parametrize(
    "command", ["doctor", "bundles list", "models list", "rollout status", "report", "review report"]
)
def test_every_command_says_a_wrong_setting_in_one_line(command: str) -> None:
    for name in ("PORT", "API_KEY"):
        done = run(*command.split(), data=None, timeout_s=PATIENCE_S, **{f"SPEECHPIPE_{name}": "abc"})
        assert done.returncode == 2
        assert f"SPEECHPIPE_{name}" in one_line(done.stderr)


def test_a_server_ends_without_a_word_too_many(tmp_path: Path) -> None:
    """Libraries with compiled parts print about leaks when the interpreter is taken apart: it is not."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--workers", "1", "--bundle", "scripted"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SPEECHPIPE_STATE_DIR": str(tmp_path), "SPEECHPIPE_LIVE_WORKERS": "1"},
    )
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if " ready: " in line:
            process.send_signal(signal.SIGINT)
    process.stderr.close()
    assert process.wait(PATIENCE_S) == 130
    said = "".join(lines)
    url = re.search(r"running on (http://\S+)", said)
    assert url is not None
    for path in ("/", "/live", "/review", "/docs"):
        assert f"{url[1]}{path}\n" in said
    assert said.index("authentication: off") < said.index("loading scripted") < said.index("ready: ")
    assert all(re.match(r"(INFO: |\d{4}-)", line) for line in lines), said


@pytest.mark.parametrize(
    "arguments", [["bundles", "list"], ["transcribe", DIGITS, "-b", "scripted"], ["--help"]], ids=str
)
def test_output_that_cannot_be_written_is_said(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = preloaded.run(*arguments, stdout=full.fileno())
    assert done.returncode == 1
    assert "No space left" in one_line(done.stderr)


@pytest.mark.parametrize("arguments", [["bundles", "list"], ["metrics", "list"], ["--help"]], ids=str)
def test_a_reader_that_is_gone_is_no_noise(arguments: list[str]) -> None:
    process = preloaded.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


@pytest.mark.long
def test_ctrl_c_ends_without_a_traceback() -> None:
    files = [str(SAMPLES / "long_pauses.flac")] * 50
    process = subprocess.Popen(
        [*COMMAND, "transcribe", *files, "-b", "scripted", "--set", "asr.cost=0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()  # it is at work
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    _, said = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert b"KeyboardInterrupt" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "/nowhere"],
        ["rollout", "start", "/nowhere"],
        ["train", "ctc", "/nowhere"],
        ["bundles", "add", "/nowhere"],
        ["review", "import", "/nowhere"],
        ["transcribe", "/nowhere"],
        ["stream", "/nowhere"],
    ],
    ids=" ".join,
)
def test_a_file_that_is_not_there_is_named_once(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, SPEECHPIPE_STATE_DIR=str(tmp_path))
    assert done.returncode in (1, 2)
    assert done.stderr.count(b"/nowhere") == 1, done.stderr
    assert b"Errno" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["bundles", "add", "--from", "default", "--name", "../x"],
        ["bundles", "add", "--from", "default", "--name", "x", "--version", "../1"],
        ["train", "ctc", str(SAMPLES / "manifest.jsonl"), "--name", "../x"],
    ],
    ids=" ".join,
)
def test_a_name_that_leads_elsewhere_is_refused(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, SPEECHPIPE_STATE_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "../" in one_line(done.stderr)
    assert "/tmp" not in one_line(done.stderr)
    assert list(tmp_path.rglob("*")) == []


def test_a_version_that_is_known_names_the_flag(tmp_path: Path) -> None:
    add = ["bundles", "add", "--from", "embedded", "--name", "mine", "--set"]
    assert run(*add, "asr.maxwpf=8", SPEECHPIPE_STATE_DIR=str(tmp_path)).returncode == 0
    done = run(*add, "asr.maxwpf=9", SPEECHPIPE_STATE_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "--version" in one_line(done.stderr)


def test_silence_has_no_text_and_that_is_said() -> None:
    done = run("transcribe", str(SAMPLES / "silence.flac"), "-b", "scripted")
    assert (done.returncode, done.stdout) == (0, b"\n")
    assert b"no speech was found" in done.stderr


def test_an_unforeseen_error_is_one_line_and_a_traceback_for_who_asks(tmp_path: Path) -> None:
    code = (
        "import sys, speechpipe.interfaces.cli as cli; cli.FAMILIES = ();"
        "cli.app.command('broken')(lambda: 1 // 0); cli.app.command('other')(lambda: 0);"
        "sys.argv = ['speechpipe', *sys.argv[1:]]; cli.main()"
    )
    plain = subprocess.run([COMMAND[0], "-c", code, "broken"], capture_output=True, check=False)
    assert plain.returncode == 1
    assert "ZeroDivisionError" in one_line(plain.stderr)
    asked = subprocess.run([COMMAND[0], "-c", code, "--traceback", "broken"], capture_output=True, check=False)
    assert asked.returncode == 1
    assert b"Traceback" in asked.stderr


def test_the_help_of_every_command_shows_all_of_its_text() -> None:
    """Rich takes words in brackets for markup and swallows them."""
    from importlib import import_module

    import typer.main

    from speechpipe.interfaces import cli

    for family in cli.FAMILIES:
        import_module(f"speechpipe.interfaces.cli.{family}")
    waiting = [typer.main.get_command(cli.app)]
    seen = 0
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        seen += 1
        texts = [command.help or "", *(getattr(parameter, "help", None) or "" for parameter in command.params)]
        for text in texts:
            assert not re.search(r"\[/?[a-z#@]", text), f"{command.name}: {text}"
    assert seen > 40


def closed(shell: str, *words: str, state: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command with a redirection that closes one of its standard streams."""
    line = f'exec "$@" {shell}'
    environment = {**os.environ, "SPEECHPIPE_STATE_DIR": str(state)}
    command = ["sh", "-c", line, "sh", *COMMAND, *words]
    return subprocess.run(command, capture_output=True, env=environment, timeout=PATIENCE_S, check=False)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("transcribe", "--bundle", "scripted", "-"), marks=pytest.mark.long),
        pytest.param(("stream", "--bundle", "scripted", "-"), marks=pytest.mark.long),
        pytest.param(("rollout", "start", "-"), marks=pytest.mark.long),
        ("automation", "tenant"),
    ],
)
def test_a_closed_standard_input_is_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = closed("<&-", *words, state=tmp_path)
    assert done.returncode in (1, 2)
    assert "standard input is closed" in one_line(done.stderr)
    assert done.stdout == b""


@pytest.mark.parametrize(
    "words",
    [
        ("bundles", "list"),
        pytest.param(("bundles", "list", "--json"), marks=pytest.mark.long),
        pytest.param(("rollout", "plan", "default"), marks=pytest.mark.long),
        pytest.param(("--version",), marks=pytest.mark.long),
    ],
)
def test_a_closed_standard_output_is_one_line_and_no_success(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = closed(">&-", *words, state=tmp_path)
    assert done.returncode == 1
    assert "output is closed" in one_line(done.stderr)
    assert closed(">&- 2>&-", *words, state=tmp_path).returncode == 1


def test_a_closed_standard_error_changes_no_result(tmp_path: Path) -> None:
    assert closed("2>&-", "--version", state=tmp_path).stdout.startswith(b"speechpipe ")
    refused = closed("2>&-", "bundles", "show", "nope", state=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, b"")


@pytest.mark.parametrize(
    "words",
    [
        ("bundles", "add"),
        ("rollout", "start"),
        ("retrain", "policy"),
        ("review", "import"),
        ("evaluate", "--bundle", "scripted"),
    ],
)
def test_a_device_in_place_of_a_file_is_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(*words, "/dev/zero", SPEECHPIPE_STATE_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "/dev/zero: not a regular file" in one_line(done.stderr)


def test_a_plan_without_end_on_standard_input_is_one_line(tmp_path: Path) -> None:
    done = closed("< /dev/zero", "rollout", "start", "-", state=tmp_path)
    assert done.returncode == 2
    assert "standard input: longer than 1 MiB" in one_line(done.stderr)


DEEP = {"toml": "a=" + "[" * 5000, "jsonl": '{"audio": ' + "[" * 5000, "json": "[" * 5000}


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("bundles", "add"), "toml"),
        (("rollout", "start"), "toml"),
        (("retrain", "policy"), "toml"),
        (("review", "import"), "json"),
        (("evaluate", "--bundle", "scripted"), "jsonl"),
        (("train", "ctc", "--name", "x"), "jsonl"),
    ],
    ids=str,
)
def test_a_file_that_is_nested_too_deeply_is_named(tmp_path: Path, words: tuple[str, ...], kind: str) -> None:
    path = tmp_path / f"deep.{kind}"
    path.write_text(DEEP[kind])
    done = run(*words, str(path), SPEECHPIPE_STATE_DIR=str(tmp_path / "state"))
    assert done.returncode == 2
    assert one_line(done.stderr).startswith(f"speechpipe: {path}")


@pytest.mark.parametrize(
    "words", [("bundles", "list"), ("transcribe", DIGITS, "-b", "scripted"), ("serve", "--port", "0")], ids=str
)
def test_a_card_that_is_nested_too_deeply_is_named(tmp_path: Path, words: tuple[str, ...]) -> None:
    card = tmp_path / "models" / "bundle" / "deep-1.toml"
    card.parent.mkdir(parents=True)
    card.write_text(DEEP["toml"])
    done = run(*words, SPEECHPIPE_STATE_DIR=str(tmp_path))
    assert done.returncode == 2
    assert str(card) in one_line(done.stderr)


@pytest.mark.parametrize("name", ["PROBES", "RETRAIN_POLICY", "API_KEYS"])
def test_a_setting_that_is_nested_too_deeply_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "deep"
    path.write_text(DEEP["toml" if name == "RETRAIN_POLICY" else "jsonl"])
    value = DEEP["json"] if name == "API_KEYS" else str(path)
    variables = {"SPEECHPIPE_STATE_DIR": str(tmp_path / "state"), f"SPEECHPIPE_{name}": value}
    done = run("serve", "--port", "0", data=None, timeout_s=PATIENCE_S, **variables)
    assert done.returncode == 2
    assert f"SPEECHPIPE_{name}: " in one_line(done.stderr)
    assert name == "API_KEYS" or str(path) in one_line(done.stderr)


def test_the_store_of_a_folder_with_any_name_is_found(start_server: StartServer, tmp_path: Path) -> None:
    state = tmp_path / "a?b%41#c"
    start_server(bundle="scripted", workers="1", live_workers="1", state_dir=str(state))
    store = str(state / "speechpipe.db")
    for words in (("rollout", "status"), ("rollout", "status", "--store", store)):
        done = run(*words, SPEECHPIPE_STATE_DIR=str(state if "--store" not in words else tmp_path))
        assert done.returncode == 0, done.stderr
        assert b"scripted" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [state.name]
    gone = run("rollout", "status", "--store", f"{store}?x", SPEECHPIPE_STATE_DIR=str(state))
    assert gone.returncode == 2
    assert f"{store}?x" in one_line(gone.stderr)


MAIN = [sys.executable, "-c", "from speechpipe.__main__ import main; main()"]


@pytest.mark.parametrize("command", [MAIN, [sys.executable, "-m", "speechpipe"]], ids=["script", "module"])
def test_ctrl_c_while_modules_are_imported_is_silent(command: list[str], tmp_path: Path) -> None:
    """The signal is sent in the middle of an import: this `typer` says when that is."""
    (tmp_path / "typer.py").write_text("import os, time\nos.write(1, b'!')\ntime.sleep(60)\n")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": paths}
    process = subprocess.Popen(
        [*command, "bundles", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"!"  # `typer` is being imported
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert (process.returncode, said) == (130, b"")


LONG = [pytest.param(imported, marks=pytest.mark.long) for imported in (1, 20, 200)]


@pytest.mark.parametrize("imported", [80, 400, *LONG])
def test_ctrl_c_at_any_moment_of_a_command_is_silent(imported: int) -> None:
    """The moment is told by Python, which names every module that it has imported."""
    command = [MAIN[0], "-X", "importtime", *MAIN[1:], "bundles", "list"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    while line := process.stderr.readline():
        if line.rstrip().endswith(b"speechpipe.__main__"):
            break
    for _ in range(imported):
        process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode in (0, 130)
    assert b"Traceback" not in said


HANG_UP = "import os, signal as s, sys; s.signal(s.SIGHUP, s.{}); os.execv(sys.argv[1], sys.argv[1:])"
"""Sets what the command does at SIGHUP. The tests may run under `nohup` themselves, which processes inherit."""


def hung_up(state: Path, at_hang_up: str) -> tuple[int, str]:
    """Close the terminal of a server: the whole process group gets SIGHUP. Return its exit code and what it said."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HANG_UP.format(at_hang_up),
            *COMMAND,
            "serve",
            "--port",
            "0",
            "--workers",
            "1",
            "--bundle",
            "scripted",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SPEECHPIPE_STATE_DIR": str(state), "SPEECHPIPE_LIVE_WORKERS": "1"},
        start_new_session=True,
    )
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if " ready: " in line:
            os.killpg(process.pid, signal.SIGHUP)
            if at_hang_up == "SIG_IGN":
                time.sleep(1.0)
                assert process.poll() is None
                process.send_signal(signal.SIGTERM)
    process.stderr.close()
    return process.wait(PATIENCE_S), "".join(lines)


def test_a_server_whose_terminal_is_closed_drains(tmp_path: Path) -> None:
    code, said = hung_up(tmp_path, "SIG_DFL")
    assert code == -signal.SIGTERM
    assert "Application shutdown complete" in said
    assert "worker" not in said.split(" ready: ")[1].split("\n", 1)[1], said


@pytest.mark.long
def test_a_server_under_nohup_stays(tmp_path: Path) -> None:
    code, said = hung_up(tmp_path, "SIG_IGN")
    assert code == -signal.SIGTERM
    assert "Application shutdown complete" in said
