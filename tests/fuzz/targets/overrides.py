"""Settings on the command line: ``key.path=value``."""

from pathlib import Path

from hypothesis import strategies as st

from pipeline.settings_io import load_config
from tests.fuzz.target import Target
from tests.fuzz.targets.settings_files import KEYS, SCALARS

NAMES = st.sampled_from(KEYS) | st.text(max_size=10) | st.sampled_from(["", ".", "a.b.c.d", "1.2"])
OVERRIDE = st.tuples(NAMES, st.sampled_from(["=", "==", "", " = "]), SCALARS).map("".join)


def run(given: tuple[list[str], str | None], folder: Path) -> None:
    """Apply them to the smallest file."""
    path = folder / "config.yaml"
    path.write_text("name: fuzz\n")
    load_config(path, given[0], given[1])


TARGET = Target(
    "overrides",
    st.tuples(st.lists(OVERRIDE, min_size=1, max_size=3), st.none() | st.text(max_size=12)),
    run,
    known=(
        (["train.learning_rate=.inf"], None),
        (["train.learning_rate=1e400"], None),
        (["train.epochs=" + "[" * 500], None),
        (["train=3", "train.epochs=1"], None),
        (["data.root=a\0b"], None),
        (["prune.ratios={[1]: 2}"], None),
        (["stages=[[1]]"], None),
        (["stages={train: 1}"], None),
        ([], ",,,"),
    ),
)
