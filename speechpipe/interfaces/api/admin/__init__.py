"""HTTP for operators: health, rollouts, training, degrees of automation, the runbook."""
