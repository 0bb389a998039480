"""What counts, and what is said of a change."""

from pipeline.dependencies import describe_changes, fingerprint


def test_settings_and_inputs_count_and_their_order_does_not() -> None:
    first = fingerprint({"a": 1, "b": 2}, {"data": "x"})
    assert fingerprint({"b": 2, "a": 1}, {"data": "x"}) == first
    assert fingerprint({"a": 1, "b": 3}, {"data": "x"}) != first
    assert fingerprint({"a": 1, "b": 2}, {"data": "y"}) != first


def test_changes_are_named() -> None:
    before = {"seed": 0, "train": {"epochs": 2, "losses": {"triplet": 1.0}}}
    after = {"seed": 0, "train": {"epochs": 3, "losses": {"triplet": 0.5}, "new": [1]}}
    assert describe_changes(before, after) == [
        "train.epochs: 2 -> 3", "train.losses.triplet: 1.0 -> 0.5", "train.new: null -> [1]",
    ]  # fmt: skip
