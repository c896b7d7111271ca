"""speechpipe: a speech recognition service (VAD, then ASR) that monitors each of its stages."""

__version__ = "0.1.0"

__all__ = ["__version__"]
