"""Adapting language models to texts."""
