"""Lists can be searched in a pipe, and names stay in one piece on a narrow terminal."""

import os

import pytest

from tests import preloaded


@pytest.mark.parametrize(("command", "name"), [("bundles", "multilingual"), ("models", "whisper-tiny-en")])
def test_a_list_in_a_pipe_has_one_line_for_each_row(command: str, name: str) -> None:
    lines = preloaded.run(command, "list", text=True, env={**os.environ, "COLUMNS": "80"}).stdout.splitlines()
    assert sum(name in line.split()[:2] for line in lines) == 1
    assert len(lines) < 60


def test_names_are_not_broken_where_columns_are_narrow(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from speechpipe.interfaces.cli.tables import listing

    table = listing("name", "what", names=("name",))
    table.add_row("whisper-large-v3-turbo", "a long description of what it is and what it is for")
    Console(width=40).print(table)
    assert "whisper-large-v3-turbo" in capsys.readouterr().out
