"""Telemetry of the speech cascade: records, metrics, failure modes, alerting rules, traces."""
