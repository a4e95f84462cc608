"""Computed once, kept, and read again: the run store, the recorded study, cross-validation, predictions of new images."""
