"""The second cascade: another graph, the same monitor, nothing of speech."""

from collections import Counter
from pathlib import Path

import pytest

from speechpipe.foundation.storage.store import Store


@pytest.mark.long
def test_severe_faults_are_put_on_their_stage_and_health_on_nobody() -> None:
    from examples.recommender.benchmark import judged  # slow to import: scikit-learn

    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for _, severity, stage, ranking in judged(seeds=1, healthy=4):
        asked[severity] += 1
        right[severity] += ranking[0] == stage
    assert asked["severe"] == 6
    assert right["severe"] == 6
    assert right[""] == 4


@pytest.mark.long
def test_a_week_of_the_shop_ends_in_a_report_that_names_the_profile(tmp_path: Path) -> None:
    from examples.recommender import __main__ as shop

    store = Store(f"sqlite:///{tmp_path / 'shop.db'}")
    store.open()
    said = shop.run(store, "P2 profile unknown", "severe", tmp_path / "report.html")
    store.close()
    assert set(said.values()) == {"profile"}
    page = (tmp_path / "report.html").read_text()
    assert 'data-blame="profile"' in page
    assert "asr" not in page.lower().split("</style>")[-1]
