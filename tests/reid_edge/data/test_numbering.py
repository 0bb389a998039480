"""Numbers for names, and cameras where there are none."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from reid_edge.data.numbering import number_names, stand_in_cameras


def test_numbers_stay_what_they_are() -> None:
    assert number_names(["0010", "0002", "0010"]) == {"0002": 2, "0010": 10}


def test_words_are_numbered_in_their_order() -> None:
    assert number_names(["s2", "s10", "s1"]) == {"s1": 1, "s10": 2, "s2": 3}


def test_two_names_of_the_same_number_are_two() -> None:
    assert number_names(["1", "01"]) == {"01": 1, "1": 2}


@given(st.lists(st.text(alphabet="01²a", min_size=1, max_size=11)))
def test_every_name_has_a_number_of_its_own(names: list[str]) -> None:
    numbers = number_names(names)
    assert set(numbers) == set(names)
    assert len(set(numbers.values())) == len(numbers)
    assert all(0 <= number < 2**31 for number in numbers.values())
    assert numbers == number_names(reversed(names))


def test_no_two_images_of_a_person_share_a_camera() -> None:
    a, b, c = Path("a"), Path("b"), Path("c")
    # The same image twice, as in query and gallery, has one camera.
    assert stand_in_cameras([(1, b), (1, a), (2, c), (1, b)]) == {a: 1, b: 2, c: 1}
