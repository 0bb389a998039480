"""Post-training int8: knows models only as modules with calibration batches."""
