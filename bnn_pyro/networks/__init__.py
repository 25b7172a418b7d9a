"""Plain nets to start from; nothing in them is Bayesian."""

from bnn_pyro.networks.lenet import lenet
from bnn_pyro.networks.mlp import ResidualMLP, mlp, residual_mlp
from bnn_pyro.networks.resnet import ResNet, resnet

__all__ = ["ResNet", "ResidualMLP", "lenet", "mlp", "residual_mlp", "resnet"]
