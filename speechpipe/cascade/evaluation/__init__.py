"""How good a cascade is: scores against references, manifests of labelled audio, captions."""
