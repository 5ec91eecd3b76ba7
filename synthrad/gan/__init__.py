"""Pure parts of adversarial training: losses, adaptive augmentation, resampling."""
