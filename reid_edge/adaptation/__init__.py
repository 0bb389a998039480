"""Adaptation of a model to the images of a site that nobody has labelled."""
