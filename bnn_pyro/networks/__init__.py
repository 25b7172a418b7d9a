"""Plain nets to start from; nothing in them is Bayesian."""

from bnn_pyro.networks.mlp import ResidualMLP, mlp, residual_mlp

__all__ = ["ResidualMLP", "mlp", "residual_mlp"]
