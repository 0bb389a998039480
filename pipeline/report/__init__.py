"""The report of a run: as data, as tables, as a page."""
