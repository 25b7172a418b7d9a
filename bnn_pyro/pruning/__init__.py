"""Pruning: which positions stay, and the smaller networks that are left."""
