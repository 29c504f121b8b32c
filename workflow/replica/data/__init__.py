"""Data sets: the registry, their retrieval, and one canonical form on disk."""
