"""What is changed while the cascade serves: rollouts, review by people, training."""
