"""Several runs as one study: settings are varied, and workers take the next trial."""
