"""Data sets from Kaggle."""

from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.core.packages import import_package
from reid_edge.data.reader import Reader
from reid_edge.data.readers import READERS

LONGEST_REASON = 120


def fetch_from_kaggle(reader: Reader) -> Path:
    """Download a data set, or find it where an earlier download has put it.

    Args:
        reader: the declaration of the data set, which names its copy at Kaggle.

    Returns:
        The folder, in kagglehub's cache.

    Raises:
        DataError: Kaggle does not have the set, cannot be reached or wants credentials;
            each message names the way without Kaggle.
    """
    if not reader.kaggle:
        there = ", ".join(name for name, other in READERS.items() if other.kaggle)
        raise DataError(
            f"{reader.name} cannot be fetched from Kaggle; get its archive from its authors and "
            f"give it with --from (from Kaggle: {there})"
        )
    kagglehub = import_package(
        "kagglehub", extra="datasets", needed_by=f"{reader.name} from Kaggle", error=DataError
    )
    try:
        return Path(kagglehub.dataset_download(reader.kaggle))
    # kagglehub lets through what requests, urllib3, its own API and the file system raise.
    except Exception as error:
        # urllib3 puts a whole chain of errors into one line.
        first = next(iter(str(error).strip().splitlines()), "")
        reason = first if 0 < len(first) <= LONGEST_REASON else type(error).__name__
        raise DataError(
            f"{reader.kaggle} cannot be fetched from Kaggle ({reason}); check the network "
            "and Kaggle's credentials, or give a local archive or folder with --from"
        ) from error
