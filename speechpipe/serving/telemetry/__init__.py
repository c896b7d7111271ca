"""What this cascade measures of itself: records, metrics, failure modes, alerting rules, traces."""
