"""Sampling with stochastic gradients, and one-shot pruning."""
