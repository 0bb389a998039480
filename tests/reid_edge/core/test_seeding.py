"""Seeds are functions of names."""

from reid_edge.core.seeding import derive_seed


def test_every_part_and_their_order_count() -> None:
    seeds = {
        derive_seed(0, "train"), derive_seed(1, "train"), derive_seed(0, "prune"),
        derive_seed("train", 0), derive_seed(0, "train", 1), derive_seed("0train"),
    }  # fmt: skip
    assert len(seeds) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_seed_does_not_change_between_versions() -> None:
    assert derive_seed(0, "train", "draws") == 1047248795
