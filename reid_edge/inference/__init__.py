"""Using a trained model: feature extraction."""
