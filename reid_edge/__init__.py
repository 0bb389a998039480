"""Person re-identification: models, data, training and metrics. Knows nothing of compression."""

__version__ = "0.2.0"
