"""Measures: collapse metrics, spectra and outcomes of finished runs."""
