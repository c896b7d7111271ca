"""What people name as a file is read if it is one, and has an end."""

import os
from pathlib import Path

import pytest

from speechpipe.cascade.catalog.cards import read_card
from speechpipe.errors import BadInput
from speechpipe.foundation.text_files import MOST_CARD_BYTES, MOST_DEPTH, naming, parse_json, parse_toml, read_text


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


DEEP = ["[" * 5000 + "]" * 5000, "[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1)]


@pytest.mark.parametrize("text", DEEP, ids=len)
def test_what_is_nested_too_deeply_is_a_value_error(text: str) -> None:
    for parse, document in ((parse_json, text), (parse_toml, f"a={text}")):
        with pytest.raises(ValueError, match=f"nested more than {MOST_DEPTH} deep"):
            parse(document)
    with pytest.raises(ValueError, match="nested"):
        parse_toml(".".join(["a"] * 2000) + " = 1")


def test_what_is_nested_as_people_nest_is_read() -> None:
    text = "[" * 50 + "]" * 50
    assert parse_json(text) == parse_toml(f"a={text}")["a"]


def test_a_file_is_named_once() -> None:
    for message in ("wrong", "plan.toml: wrong"):
        with pytest.raises(BadInput) as caught, naming("plan.toml"):
            raise BadInput(message, cause="bad_plan")
        assert (caught.value.message, caught.value.cause) == ("plan.toml: wrong", "bad_plan")
