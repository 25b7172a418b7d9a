"""A compiler for functions of tensors, which knows neither Bayes nor networks."""
