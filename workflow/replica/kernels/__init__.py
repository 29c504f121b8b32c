"""Kernel machines, their average gradient outer product, and networks that are held beside them."""
