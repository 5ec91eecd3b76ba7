"""Inference as pure functions of arrays: layouts, resampling, corrections, power."""
