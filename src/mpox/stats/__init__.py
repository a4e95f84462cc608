"""Predictions in, tables out: metrics, intervals, comparisons, decisions. No torch and no image."""
