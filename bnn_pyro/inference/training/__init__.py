"""Training: what variational inference, sampling with stochastic gradients and dense training share."""
