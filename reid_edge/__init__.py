"""Person re-identification: models, data, training and metrics. Knows nothing of compression."""
