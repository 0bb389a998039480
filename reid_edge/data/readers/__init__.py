"""Data sets, one file each; registered here by name and loaded when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_edge.core.errors import DataError
from reid_edge.core.registry import Registry

if TYPE_CHECKING:  # help texts need the names alone
    from reid_edge.data.reader import Reader

_HERE = "reid_edge.data.readers"
READERS: Registry[Reader] = Registry(
    "data set",
    "reid_edge.readers",
    {
        "market1501": f"{_HERE}.market1501:MARKET1501",
        "dukemtmc-reid": f"{_HERE}.dukemtmc_reid:DUKEMTMC_REID",
        "cuhk03-detected": f"{_HERE}.cuhk03:DETECTED",
        "cuhk03-labelled": f"{_HERE}.cuhk03:LABELLED",
        "cuhk03-classic-detected": f"{_HERE}.cuhk03:CLASSIC_DETECTED",
        "cuhk03-classic-labelled": f"{_HERE}.cuhk03:CLASSIC_LABELLED",
        "cuhk01": f"{_HERE}.cuhk01:CUHK01",
        "msmt17": f"{_HERE}.msmt17:MSMT17",
        "casia-webface": f"{_HERE}.casia_webface:CASIA_WEBFACE",
        "csv": f"{_HERE}.csv_list:CSV",
        "unlabelled": f"{_HERE}.unlabelled:UNLABELLED",
        "tracklets": f"{_HERE}.unlabelled:TRACKLETS",
        "folders": f"{_HERE}.identity_folders:FOLDERS",
    },
    error=DataError,
)
