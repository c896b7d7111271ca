"""Training and adapting CTC networks."""
