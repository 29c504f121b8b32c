"""Closed forms: losses, thresholds and explicit solutions."""
