"""What the server writes is readable by its owner only, and its signing key is one for all that it sends."""

import stat
from pathlib import Path

import pytest

from speechpipe.config import Settings
from speechpipe.foundation.state_files import create_file, make_folder, write_file
from speechpipe.serving.signing import signing_secret


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_and_files_belong_to_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_folder(folder)
    assert [mode(path) for path in (folder, folder.parent)] == [0o700, 0o700]
    create_file(folder / "x.db")
    write_file(folder / "c" / "y.json", b"{}")
    assert [mode(path) for path in (folder / "x.db", folder / "c", folder / "c" / "y.json")] == [0o600, 0o700, 0o600]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_file(path, b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["x.json"]


def test_the_signing_key_is_the_setting_or_one_that_is_made_once(tmp_path: Path) -> None:
    assert signing_secret(Settings(state_dir=tmp_path, signing_secret="mine")) == b"mine"
    made = signing_secret(Settings(state_dir=tmp_path / "state"))
    assert made
    assert signing_secret(Settings(state_dir=tmp_path / "state")) == made
    assert mode(tmp_path / "state") == 0o700
    assert mode(tmp_path / "state" / "signing.key") == 0o600
