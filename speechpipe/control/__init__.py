"""Operations that change a serving cascade: rollouts, human review, training."""
