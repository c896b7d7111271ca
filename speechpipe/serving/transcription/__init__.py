"""Transcription of a file by the cascade, and its result as plain data."""
