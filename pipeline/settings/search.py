"""Section ``search``: widths searched under a limit."""

from pydantic import Field

from pipeline.settings.section import FilePath, Settings


class SearchMachine(Settings):
    """A machine that evaluates candidates, over SSH."""

    address: str = Field(description="user@host or user@host:port")
    key_file: FilePath = Field(description="private key for it, without a passphrase")
    python: str = Field(description="Python with this project's requirements, as a path there")


class SearchSettings(Settings):
    """``python -m pipeline.search``: the widths of ``prune`` searched under a limit."""

    trials: int = Field(32, ge=1, description="candidates to score")
    macs: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="limit of MACs, as a share of the full-width model's; none: those of "
        "prune.target",
    )
    multiple: int = Field(
        1, ge=1, description="widths are multiples of it, if the layer is wide enough"
    )
    untouched: tuple[str, ...] = Field((), description="patterns of layers that are not cut")
    variables: dict[str, tuple[str, ...]] | None = Field(
        None,
        min_length=1,
        description="patterns of the layers that share a proportion, by name; none: one for each "
        "stage, and for OSNet one for the inner layers of all blocks",
    )
    iterations: int = Field(1, ge=1, description="number of cuts that make a candidate")
    reconstruction_images: int = Field(
        96, ge=1, description="training images for least squares after each cut"
    )
    held_back: int = Field(
        40, ge=2, description="training identities to score on; the others are for reconstruction"
    )
    concurrency: int = Field(1, ge=1, description="candidates that are scored at the same time")
    machines: tuple[SearchMachine, ...] = Field(
        (), description="machines that score, over SSH: {address, key_file, python}; none: this one"
    )
    callback: str = Field(
        "127.0.0.1",
        description="address at which the machines reach the SSH tunnel to this machine",
    )
