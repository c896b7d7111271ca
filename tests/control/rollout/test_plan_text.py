"""A plan as text says what was asked for, whatever the candidate is called."""

import tomllib

import pytest

from speechpipe.control.rollout import plan


@pytest.mark.parametrize("candidate", ["fast@1.0.0", 'x"\n[evil]\na = "', "a\\b", "\x00\x7f\t", "ö😀", "'''"])
def test_a_candidates_name_is_quoted(candidate: str) -> None:
    for case in plan.CASES:
        found = tomllib.loads(plan.template(case, candidate, {"null": 0.01}))
        assert found["candidate"] == candidate
        assert "evil" not in found
