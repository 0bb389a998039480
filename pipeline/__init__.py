"""The pipeline: its stages, their order, and the files that they write."""
