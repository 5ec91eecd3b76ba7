"""The audit of a synthetic set: what it gives away of the patients that its generator was trained on."""
