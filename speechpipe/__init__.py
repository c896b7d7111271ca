"""speechpipe: a VAD -> ASR cascade that tells the truth about each of its stages."""

__version__ = "0.1.0"

__all__ = ["__version__"]
