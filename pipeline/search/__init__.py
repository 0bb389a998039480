"""``python -m pipeline.search``: widths searched under a limit, as a plan that ``prune`` takes."""
