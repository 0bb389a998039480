"""Channel pruning: masks and surgery by NNI, exact widths, and a check of every step."""
