"""Quantization and export. Models are plain modules with calibration batches here."""
