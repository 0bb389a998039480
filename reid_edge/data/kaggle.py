"""Data sets from Kaggle."""

from pathlib import Path

from reid_edge.core.errors import DataError

HANDLES = {
    "market1501": "pengcw1/market-1501",
    "cuhk03-detected": "priyanagda/cuhk03",
    "cuhk03-labelled": "priyanagda/cuhk03",
    "cuhk03-classic-detected": "priyanagda/cuhk03",
    "cuhk03-classic-labelled": "priyanagda/cuhk03",
    "casia-webface": "ntl0601/casia-webface",
}
LONGEST_REASON = 120


def fetch_from_kaggle(name: str) -> Path:
    """Download a data set, or find it where an earlier download has put it.

    Args:
        name: a key of ``HANDLES``.

    Returns:
        The folder, in kagglehub's cache.

    Raises:
        DataError: Kaggle does not have the set, cannot be reached or wants credentials;
            each message names the way without Kaggle.
    """
    if name not in HANDLES:
        raise DataError(
            f"{name} cannot be fetched from Kaggle; get its archive from its authors and give it "
            f"with --from (from Kaggle: {', '.join(HANDLES)})"
        )
    # Only here: importing it takes half a second and sets up a log of its own.
    import kagglehub

    try:
        return Path(kagglehub.dataset_download(HANDLES[name]))
    # kagglehub lets through what requests, urllib3, its own API and the file system raise.
    except Exception as error:
        raise DataError(
            f"{HANDLES[name]} cannot be fetched from Kaggle ({_reason(error)}); check the network "
            "and Kaggle's credentials, or give a local archive or folder with --from"
        ) from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    # urllib3 puts a whole chain of errors into one line.
    return lines[0] if lines and len(lines[0]) <= LONGEST_REASON else type(error).__name__
