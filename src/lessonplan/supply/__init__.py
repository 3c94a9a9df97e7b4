"""Where batches come from: an epoch of a run, and loops of the user's own."""
