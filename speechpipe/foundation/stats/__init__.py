"""Statistics that several parts share: e-processes, sketches, Shapley values, run lengths, calibration."""
