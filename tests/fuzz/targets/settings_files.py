"""Configuration files: sections, keys and values, and text that is hardly YAML."""

from pathlib import Path

from hypothesis import strategies as st

from pipeline.settings_io import load_config, setting_keys
from tests.fuzz.target import Target

KEYS = [*sorted(setting_keys()), "extends", "nothing", "train", "prune", "data.synthetic"]
SCALARS = st.one_of(
    st.sampled_from([
        "null", "true", "[]", "{}", "''", "0", "-1", "1", "0.5", "1e400", ".inf", ".nan", "0x10",
        "1_000", "2026-11-28", "~/x", "a\\0b", "!!python/object:os.system x", "!!binary aGk=",
        "&a [*a]", "*a", "<<: {a: 1}", "? [1]", "'\\ud800'", "99999999999999999999", "-.inf",
        "{1: 2}", "[[[[1]]]]", "osnet_x0_5", "{macs: 0.3}", "{macs: 1, latency: 1}", "1:30",
    ]),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=12).map(repr),
    st.text(max_size=12),
)  # fmt: skip


def write_nested(entries: list[tuple[str, str]]) -> str:
    """Return settings by full name as YAML; a name that occurs twice makes it invalid or not."""
    lines = []
    for key, value in entries:
        *parents, last = key.split(".")
        lines += [f"{'  ' * depth}{parent}:" for depth, parent in enumerate(parents)]
        lines.append(f"{'  ' * len(parents)}{last}: {value}")
    return "\n".join(lines)


INPUTS = st.one_of(
    st.lists(st.tuples(st.sampled_from(KEYS), SCALARS), max_size=4).map(write_nested),
    st.lists(SCALARS, max_size=6).map("\n".join),
    st.text(max_size=80),
).map(lambda text: text.encode("utf-8", "surrogatepass"))


def run(content: bytes, folder: Path) -> None:
    """Read the file as the commands do."""
    path = folder / "config.yaml"
    path.write_bytes(content)
    load_config(path)


TARGET = Target(
    "settings",
    INPUTS | st.binary(max_size=60),
    run,
    known=(
        b"train: " + b"[" * 500 + b"]" * 500,
        b"train: " + b"{a: " * 500 + b"1" + b"}" * 500,
        b"a0: &a0 [x, x]\n"
        + b"".join(
            b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 30)
        ),
        b'extends: "a\\0b"\n',
        b"extends: [1, 2]\n",
        b"extends: config.yaml\n",
        b"",
        b"seed: &a [*a]\n",
        b"train: {learning_rate: .inf}\n",
        b"train: {learning_rate: 1e400}\n",
        b"prune: {target: .nan}\n",
        b"seed: 0x" + b"f" * 5000 + b"\n",
        b"seed: " + b"9" * 5000 + b"\n",
        b"? {a: 1}\n: 2\n",
        b"1: 2\n",
        b"train: {1: 2}\n",
        b"\xff\xfe\x00",
        b"a: 2026-99-99\n",
    ),
)
