"""Training and adaptation of CTC networks."""
