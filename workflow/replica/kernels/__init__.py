"""Kernel machines, their average gradient outer product, and networks for comparison."""
