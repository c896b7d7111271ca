"""The cascade: the way of a sample to a text, through audio, VAD, segments and recognizers. Knows no server."""
