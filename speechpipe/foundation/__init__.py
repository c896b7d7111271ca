"""Operating system, background tasks, storage and statistics: used by all other parts, and independent of speech."""
