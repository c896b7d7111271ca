"""What every part stands on: the operating system, background tasks, the store, statistics. Knows nothing of speech."""
