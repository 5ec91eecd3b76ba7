"""Pure parts of diffusion: noise schedules, what a net predicts, guidance, samplers."""
