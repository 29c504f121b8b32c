"""Models: the deep unconstrained features model, networks with its head, feature hooks."""
