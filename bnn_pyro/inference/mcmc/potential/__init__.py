"""Potential energies of Pyro models, as programs of tensors."""
