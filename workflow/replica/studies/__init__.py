"""Studies: one module a paper, with its figures, drawings and claims."""
