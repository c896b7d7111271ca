"""Evaluation of a cascade: scores against references, manifests of labelled audio, captions."""
