"""What people name as a file is read if it is one, and has an end."""

import os
from pathlib import Path

import pytest

from speechpipe.cascade.catalog.cards import read_card
from speechpipe.errors import BadInput
from speechpipe.foundation.text_files import MOST_CARD_BYTES, read_text


def test_a_file_is_read_with_one_kind_of_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_bytes("é\r\nb\rc\n".encode())
    assert read_text(path) == "é\nb\nc\n"


def test_what_has_no_end_or_is_no_text_is_refused_and_named(tmp_path: Path) -> None:
    pipe, long, binary = tmp_path / "pipe.toml", tmp_path / "long", tmp_path / "binary"
    os.mkfifo(pipe)  # nobody writes to it: to open it the usual way would wait for ever
    long.write_bytes(b" " * (MOST_CARD_BYTES + 1))
    binary.write_bytes(b"\xff\xfe")
    refused = [Path("/dev/zero"), pipe, long, binary, tmp_path, tmp_path / "absent", Path("a\0b")]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in refused:
        with pytest.raises(BadInput) as caught:
            read_text(path, cause="bad_plan")
        assert str(path) in caught.value.message
        assert caught.value.cause == "bad_plan"
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(BadInput, match=r"pipe\.toml: not a regular file"):
        read_card(pipe)
