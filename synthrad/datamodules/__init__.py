"""Lightning data modules: FusionDataModule for the tasks, GenerationDataModule for the generators."""
