"""The running cascade: engine, uploads, live audio, its measurements and its health."""
