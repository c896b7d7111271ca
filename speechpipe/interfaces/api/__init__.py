"""The HTTP side: thin. Requests become `TranscriptionRequest`s, results become what clients already speak."""
