"""Replica: the methods, metrics, certificates and claims of eight papers, and their pipeline."""
