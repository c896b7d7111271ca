"""What is deprecated works, and says since when, until when and what to use."""

import pytest

from speechpipe.foundation.deprecation import deprecated


@deprecated("0.2", removal_in="0.4", alternative="add(a, b)")
def plus(a: int, b: int) -> int:
    """Add."""
    return a + b


def test_it_works_and_warns_in_the_callers_name() -> None:
    with pytest.warns(DeprecationWarning, match=r"plus is deprecated since speechpipe 0\.2 .* 0\.4; use add") as found:
        assert plus(1, b=2) == 3
    assert found[0].filename == __file__
    assert (plus.__name__, plus.__doc__) == ("plus", "Add.")
