"""One file through the cascade, and its result as data."""
