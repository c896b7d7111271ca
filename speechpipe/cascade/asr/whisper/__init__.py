"""Whisper (Radford et al., 2022) with released weights in CTranslate2's format.

One idea a file: `features.py` (log-mel), `vocabulary.py` (tokens and text), `windows.py` (which pieces share a window),
`decoding.py` (the model), `words.py` (words with times, and whose they are), `guards.py` (what is not believed),
`batch.py` (what is decoded, and what again), `results.py` (transcripts), `recognizer.py` (its options).
"""
