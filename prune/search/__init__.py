"""Widths searched with an NNI experiment: space, tuner, history, manager process, machines."""
