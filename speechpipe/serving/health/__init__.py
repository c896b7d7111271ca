"""The health of the running cascade: what follows its records, probes, replays, reports."""
