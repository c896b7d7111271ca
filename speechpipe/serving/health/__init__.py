"""Health of the running cascade: monitoring of its records, probes, replays, reports."""
