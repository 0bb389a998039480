"""Write a data set in the layout of Market-1501, from an archive, a folder or Kaggle."""

from reid_edge.data.prepare.layout import prepare

__all__ = ["prepare"]
