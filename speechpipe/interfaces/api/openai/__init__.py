"""Uploads and live audio as OpenAI's clients speak them."""
