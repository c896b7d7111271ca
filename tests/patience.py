"""How long tests wait for what must happen: no test depends on how fast the machine is.

A test that fails by these limits hangs. What must be fast is measured by benchmarks, or compared with something else
that the same machine did.
"""

import time
from collections.abc import Callable

PATIENCE_S = 900.0


def until(condition: Callable[[], object], pause_s: float = 0.05) -> None:
    """Wait until `condition` is true."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(pause_s)
