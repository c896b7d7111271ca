"""Live audio as Deepgram's clients speak it."""
