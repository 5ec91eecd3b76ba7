"""Metrics: pure functions of arrays and cases tables."""
