"""speechpipe: a speech recognition service (VAD, then ASR) that monitors each of its stages."""

__version__ = "0.2.0"

__all__ = ["__version__"]
