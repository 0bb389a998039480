"""The run's story: as data, as tables, as a page."""
