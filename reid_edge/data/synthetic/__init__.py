"""Synthetic pedestrians, drawn from a seed, so that no real images are needed."""

from reid_edge.data.synthetic.mot_settings import MotSettings
from reid_edge.data.synthetic.mot_writer import write_synthetic_mot
from reid_edge.data.synthetic.synthetic_settings import SyntheticSettings
from reid_edge.data.synthetic.write import write_synthetic_market1501

__all__ = [
    "MotSettings",
    "SyntheticSettings",
    "write_synthetic_market1501",
    "write_synthetic_mot",
]
