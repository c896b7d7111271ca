"""Statistics: e-processes, quantile sketches, Shapley values, run lengths of CUSUMs, calibration."""
