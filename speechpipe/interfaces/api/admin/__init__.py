"""HTTP routes for operators: health, rollouts, training, automation, the runbook."""
