"""Make torchaudio importable beside a CPU-only torch. Run once after installing; does nothing elsewhere.

torchaudio's wheel is built against CUDA and its compiled extensions do not load without it. Its loader takes a
missing extension file for "not built", and then everything but `forced_align` works in Python. So beside a
CPU-only torch, and only there, the extension files are removed.
"""

from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Remove the extensions where torch has no CUDA."""
    import torch

    spec = find_spec("torchaudio")
    if torch.version.cuda is not None or spec is None or spec.origin is None:
        return
    for path in Path(spec.origin).parent.glob("lib/*.so"):
        path.unlink()
        print(f"removed {path.name}: torch {torch.__version__} has no CUDA")


if __name__ == "__main__":
    main()
