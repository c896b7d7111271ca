"""Monitoring of a cascade from its records. Nothing in this package depends on audio, VAD or recognizers."""
