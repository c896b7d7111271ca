"""The running cascade: engine, uploads, live audio, automation, telemetry and health."""
