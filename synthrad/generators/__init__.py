"""LightningModules that learn to draw."""
