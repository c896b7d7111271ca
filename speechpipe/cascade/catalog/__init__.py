"""What is released: cards of components, bundles of them, weights on this machine."""
