"""The tests. Linear algebra uses one thread in all of their processes: several of them run beside each other."""

import os

for _library in ("OMP", "OPENBLAS", "MKL"):  # read when numpy and torch are imported
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
