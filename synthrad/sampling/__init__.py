"""A synthetic set, drawn in blocks: one that was killed and resumed, or made by more processes, has the same bytes."""
