"""The package as a user installs it: a wheel in an environment of its own, run from somewhere else."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cascade.asr.test_torchaudio_import import broken  # noqa: F401 - a fixture
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
WEIGHTS = os.environ["SPEECHPIPE_WEIGHTS_DIR"]
FETCHED = {"SPEECHPIPE_WEIGHTS_DIR": WEIGHTS, "SPEECHPIPE_OFFLINE": "1"}
NOWHERE = Path("/proc")
"""A working directory in which nothing can be written, even by root."""


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it; all other packages are those of this environment."""

    folder: Path
    wheel: Path

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the installed command, without a home, from where nothing can be written."""
        return subprocess.run(
            [self.folder / "bin" / "speechpipe", *arguments],
            cwd=NOWHERE if NOWHERE.is_dir() else "/",
            env={
                "PATH": os.environ["PATH"],
                "SPEECHPIPE_WEIGHTS_DIR": WEIGHTS,
                "SPEECHPIPE_OFFLINE": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]

    def quietly(*command: object) -> None:
        subprocess.run([str(word) for word in command], check=True, capture_output=True)

    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    quietly(*build)
    (wheel,) = folder.glob("*.whl")
    quietly(sys.executable, "-m", "venv", "--without-pip", folder / "env")
    python = folder / "env" / "bin" / "python"
    quietly(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    inside = next((folder / "env" / "lib").glob("python*/site-packages"))
    # A line of a .pth file adds a folder without reading the .pth files in it: not the one that leads to this checkout.
    (inside / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(folder / "env", wheel)


def test_it_carries_the_cards_and_nothing_that_is_not_the_package(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        inside = set(archive.namelist())
    cards = {f"speechpipe/_models/{path.relative_to(ROOT / 'models')}" for path in (ROOT / "models").rglob("*.toml")}
    assert cards <= inside
    assert not [name for name in inside if not name.startswith(("speechpipe/", "speechpipe-"))]


def test_its_command_says_what_it_can(installed: Installed) -> None:
    done = installed.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "transcribe" in done.stdout
    done = installed.run("bundles", "list", "--json")
    assert {"default", "digits", "wav2vec2"} <= {bundle["name"] for bundle in json.loads(done.stdout)}, done.stderr


def test_its_own_code_and_models_are_used(installed: Installed) -> None:
    code = (
        "import speechpipe; from speechpipe.cascade.catalog import cards;"
        " print(speechpipe.__file__, cards.shipped_models())"
    )
    python = installed.folder / "bin" / "python"
    done = subprocess.run([python, "-c", code], cwd="/", env={}, capture_output=True, text=True, check=True)
    assert all(path.startswith(str(installed.folder)) for path in done.stdout.split()), done.stdout


@pytest.mark.parametrize("bundle", ["default", "digits"])
def test_it_transcribes(installed: Installed, bundle: str) -> None:
    file = str(SAMPLES / "digits.flac")
    done = installed.run("transcribe", file, "--bundle", bundle, "--workers", "1", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"]


def test_recognizers_on_torchaudio_work_where_its_libraries_do_not_load(
    installed: Installed,
    broken: dict[str, str],  # noqa: F811 - the fixture
) -> None:
    only = broken["PYTHONPATH"].split(os.pathsep)[0]
    file = str(SAMPLES / "digits.flac")
    done = installed.run("transcribe", file, "--bundle", "digits", "--workers", "1", PYTHONPATH=only)
    assert (done.returncode, done.stdout != "") == (0, True), done.stderr
    done = installed.run("doctor", "--no-self-test", PYTHONPATH=only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot load" not in done.stdout


def test_doctor_says_what_does_not_load(installed: Installed, tmp_path: Path) -> None:
    for name, error in (("torch", "OSError('libcuda is broken')"), ("onnxruntime", "ImportError('no such thing')")):
        (tmp_path / f"{name}.py").write_text(f"raise {error}\n")
    done = installed.run("doctor", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "libcuda is broken" in done.stdout
    assert "no such thing" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_doctor_is_content(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("doctor", SPEECHPIPE_STATE_DIR=str(tmp_path), SPEECHPIPE_WORKERS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accounting balanced" in done.stdout
