"""Hold the coverage that was reached: `fail_under` in pyproject.toml is never lowered, and raised as tests are added.

Run by `make coverage` after the tests. Ends with 1 if the coverage is below the floor, or so far above it that the
floor can be raised.
"""

import math
import sys
import tomllib
from pathlib import Path

import coverage

SLACK = 2.0
"""Points above the floor at which it must be raised: two runs of the same tests differ by less than one."""


def verdict(total: float, floor: float) -> str:
    """Return what is wrong with a coverage of `total` percent where `floor` is asked; empty if nothing is."""
    if total < floor:
        return f"coverage fell to {total:.1f} %, below {floor:g} %: test what was added (see the lines above)"
    if total >= floor + SLACK:
        return f"coverage is {total:.1f} %: raise fail_under in pyproject.toml to {math.floor(total - 1)}"
    return ""


def main() -> int:
    """Print the files with the lowest coverage and the total; return the exit code."""
    root = Path(__file__).parents[1]
    floor = float(tomllib.loads((root / "pyproject.toml").read_text())["tool"]["coverage"]["report"]["fail_under"])
    data = coverage.Coverage(config_file=str(root / "pyproject.toml"))
    data.load()
    total = data.report(show_missing=False, skip_covered=True, sort="cover", precision=1)
    print(said := verdict(total, floor) or f"coverage {total:.1f} %, asked {floor:g} %")
    return int(said.startswith("coverage fell") or "raise" in said)


if __name__ == "__main__":
    sys.exit(main())
