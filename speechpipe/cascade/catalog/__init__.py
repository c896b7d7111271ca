"""The catalogue: cards of components, bundles made of them, and their weights on this machine."""
