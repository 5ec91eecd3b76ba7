"""Images and masks on disk: reading, caching, augmenting, splitting; phantoms; readers of public layouts."""
