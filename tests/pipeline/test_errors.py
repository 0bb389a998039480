"""A message is one line, also when it comes from a worker process."""

import pytest
from torch.utils.data import DataLoader, Dataset

from pipeline.errors import one_line
from reid.errors import DataError


class Broken(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise DataError("a.jpg: cannot be decoded")


@pytest.mark.parametrize("workers", [0, 1])
def test_one_line(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(DataLoader(Broken(), num_workers=workers))
    assert one_line(caught.value) == "a.jpg: cannot be decoded"


def test_an_error_without_words() -> None:
    assert one_line(DataError()) == "DataError"
