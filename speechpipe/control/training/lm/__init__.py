"""Adaptation of language models to texts."""
