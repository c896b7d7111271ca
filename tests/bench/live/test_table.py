"""The table of the live benchmark: what is shipped is complete, and a mistake is named with its place."""

from pathlib import Path

import pytest

from speechpipe.bench.live.run import manner_of
from speechpipe.bench.live.table import KINDS, SEVERITIES, SHIPPED, TRUTHS, read_table
from speechpipe.errors import BadInput

ROW = '[[fault]]\nname = "quiet"\ntruth = "input"\nseverity = "mild"\nwhere = "audio"\nkind = "gain"\nvalue = 12\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "faults.toml"
    path.write_text(text)
    return path


def test_the_shipped_table_has_every_place_truth_and_severity() -> None:
    rows = read_table()
    assert {row.where for row in rows} == {kind.where for kind in KINDS.values()}
    assert {row.truth for row in rows} == set(TRUTHS)
    assert {row.severity for row in rows} == set(SEVERITIES)
    assert any(row.also for row in rows)
    assert {row.where for row in rows if row.is_from_outside} == {"audio", "people", "traffic"}


def test_the_second_table_can_be_read_and_has_every_truth_and_severity() -> None:
    rows = read_table(SHIPPED.with_name("faults_second.toml"))
    assert {row.truth for row in rows} == set(TRUTHS)
    assert {row.severity for row in rows} == set(SEVERITIES)
    assert not {row.name for row in rows} & {row.name for row in read_table()}


def test_a_row_is_read_with_its_values(tmp_path: Path) -> None:
    more = ROW.replace("quiet", "both").replace("value = 12", 'values = [30]\nshare = 0.2\nalso = "quiet"')
    first, second = read_table(written(tmp_path, ROW + more))
    assert (first.name, first.value, first.share, first.also) == ("quiet", 12.0, 1.0, "")
    assert (second.values, second.share, second.also) == ((30.0,), 0.2, "quiet")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('kind = "gain"', 'kind = "gian"', "unknown kind 'gian'"),
        ('where = "audio"', 'where = "vad"', "`where` 'audio'"),
        ('truth = "input"', 'truth = "audio"', "`truth` must be one of"),
        ('severity = "mild"', 'severity = "harmless"', "go together"),
        ('truth = "input"', 'truth = "none"', "go together"),
        ("value = 12", "values = [1, 2]", "takes 1 values, not 2"),
        ("value = 12", "", "takes 1 values, not 0"),
        ("value = 12", "value = nan", "must be a number"),
        ("value = 12", "value = true", "must be a number"),
        ("value = 12", "value = 12\nvalues = [1]", "not both"),
        ("value = 12", "value = 12\nshare = 0", "`share`"),
        ("value = 12", 'value = 12\nalso = "quiet"', "`also`"),
        ("value = 12", 'value = 12\nalso = "unknown"', "`also`"),
        ("value = 12", "valeu = 12", "unknown field 'valeu'"),
        ('name = "quiet"', 'name = ""', "`name`"),
        ("value = 12\n", f"value = 12\n{ROW}", "two faults are called 'quiet'"),
        ("[[fault]]", "[[faults]]", "at least one"),
        ("[[fault]]", "[[fault", "faults.toml"),
    ],
)
def test_a_mistake_is_named(before: str, after: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, ROW.replace(before, after))
    with pytest.raises(BadInput) as caught:
        read_table(path)
    assert said in caught.value.message
    assert str(path) in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.toml"):
        read_table(tmp_path / "none.toml")


def test_faults_of_people_and_traffic_change_how_they_come() -> None:
    rows = {row.name: row for row in read_table()}
    usual = manner_of([])
    found = manner_of([rows["gain_severe"], rows["typing_severe"], rows["double_traffic"], rows["longer_sessions"]])
    assert found.audio == (rows["gain_severe"],)
    assert found.habits.typing == pytest.approx(usual.habits.typing + rows["typing_severe"].value)
    assert found.habits.redo == usual.habits.redo
    assert (found.faster, found.longer, found.others) == (2.0, 3.0, False)
    assert manner_of([rows["other_speakers"]]).others
    assert manner_of([rows["threshold_severe"]]) == usual
