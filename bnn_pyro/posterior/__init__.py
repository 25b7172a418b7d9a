"""Posteriors: what a guide, Markov chains or snapshots say of a network."""
