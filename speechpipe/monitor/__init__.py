"""Watching cascades from outside. Nothing here knows of audio, VAD or recognizers: it reads records only."""
