"""Retraining: from what people have reviewed to a new version of a model, which enters at shadow."""
