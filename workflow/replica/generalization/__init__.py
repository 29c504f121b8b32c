"""Measures of generalization of every trained network of the project."""
