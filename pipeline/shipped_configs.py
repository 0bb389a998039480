"""The configurations that come with the program, found from any folder."""

from pathlib import Path

from reid_edge.core.errors import PipelineError

SUFFIX = ".yaml"


def shipped_folder() -> Path:
    """Return the folder of the configurations: in the package, or ``configs/`` in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shipped_config(name: Path) -> Path | None:
    """Return the configuration of a name, or None if there is none.

    Args:
        name: ``osnet_x0_5``, ``osnet_x0_5.yaml`` or ``configs/osnet_x0_5.yaml``.
    """
    if name.parent not in (Path(), Path("configs")) or name.suffix not in ("", SUFFIX):
        return None
    path = shipped_folder() / f"{name.stem}{SUFFIX}"
    return path if path.is_file() else None


def find_config(given: Path) -> Path:
    """Return the configuration that ``--config`` means; a file that exists wins over a name.

    Raises:
        PipelineError: there is none.
    """
    if given.exists() and not given.is_dir():
        return given
    shipped = shipped_config(given)
    if shipped is None:
        names = ", ".join(sorted(path.stem for path in shipped_folder().glob(f"*{SUFFIX}")))
        raise PipelineError(
            f"{given}: cannot read this configuration; give an existing YAML file, or one of "
            f"{names}"
        )
    return shipped
