"""Intervals, tests and ranks for figures whose rows come in clusters: the sentences of a patient."""
