"""Synthetic pedestrians, drawn from a seed, so that no real images are needed."""

from reid_edge.data.synthetic.synthetic_settings import SyntheticSettings
from reid_edge.data.synthetic.write import write_synthetic_market1501

__all__ = ["SyntheticSettings", "write_synthetic_market1501"]
