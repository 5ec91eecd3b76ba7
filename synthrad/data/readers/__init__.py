"""One module a dataset layout: DESCRIPTION, add_arguments(parser), read(root, out, args) -> Manifest."""
