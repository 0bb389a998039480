"""Synthetic pedestrians, drawn from a seed, so that no real pictures are needed."""

from reid.data.synthetic.settings import SyntheticSettings
from reid.data.synthetic.write import write_synthetic_market1501

__all__ = ["SyntheticSettings", "write_synthetic_market1501"]
