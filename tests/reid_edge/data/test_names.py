"""Numbers in any form, words, junk and missing values as names of persons and cameras."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_edge.data.names import (
    group_names,
    is_junk,
    is_missing,
    notes_on_distractors,
    notes_on_names,
    number_names,
    whole_number,
)


@pytest.mark.parametrize(
    "form",
    [
        "1", "01", "0001", "1.0", "1.", "1.000", " 1 ", "+1", "1e0", "1E+00", "10e-1", "0.1e1",
        "1,0", "\uff11", "\u0661", "\ufeff1", "1\u00a0", "\u200b1",
    ],
)  # fmt: skip
def test_forms_of_the_number_one(form: str) -> None:
    assert whole_number(form) == 1
    assert set(number_names([form, "1", "7"]).values()) == {1, 7}


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "1.5", "1,5", "1,000", "0x1", "1_0", "1 0", "one", "nan", "inf", "1e", "1e-1",
        "--1", "\u00b9", "1.0.0", "1e9999", "9" * 50, "\u2160",
    ],
)  # fmt: skip
def test_what_is_no_whole_number(text: str) -> None:
    assert whole_number(text) is None


@given(st.text(alphabet="0123456789+-.,eE \u0661x\u2212", max_size=60))
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = whole_number(text)
    assert number is None or whole_number(str(number)) in (number, None)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{}.0", "{}.00", "{}e0", " {} "]))
def test_a_number_is_read_as_itself(number: int, form: str) -> None:
    assert whole_number(form.format(number)) == number


def test_numbers_stay_what_they_are() -> None:
    assert number_names(["0010", "0002", "0010"]) == {"0002": 2, "0010": 10}


def test_words_are_numbered_in_their_order() -> None:
    assert number_names(["s2", "s10", "s1"]) == {"s1": 1, "s10": 2, "s2": 3}


def test_two_names_of_the_same_number_are_one() -> None:
    assert number_names(["1", "01", "1.0", "2"]) == {"1": 1, "01": 1, "1.0": 1, "2": 2}
    # Also where the numbers are not kept: beside a word, and with many digits.
    assert number_names(["7", "07", "a"]) == {"07": 1, "7": 1, "a": 2}
    assert number_names(["1234567890", "1234567890.0"]) == {"1234567890": 1, "1234567890.0": 1}
    assert number_names(["-7", "-7.0", "3"]) == {"-7": 1, "-7.0": 1, "3": 2}


def test_parts_of_hashes_are_no_numbers() -> None:
    assert len(set(number_names(["1e1", "10", "2e1", "ab"]).values())) == 4
    assert len(set(number_names(["1e1", "10", "2e1"]).values())) == 2
    # Only a spreadsheet writes these.
    assert len(set(number_names(["1e+01", "10", "ab"]).values())) == 2


def test_a_word_is_the_same_however_its_letters_are_composed() -> None:
    composed = "Jos\u00e9"
    apart = unicodedata.normalize("NFD", composed)
    assert apart != composed
    assert set(number_names([composed, apart, f" {composed} "]).values()) == {1}


@given(st.lists(st.text(alphabet="01\u00b2a.e-", min_size=1, max_size=11)))
def test_every_group_of_names_has_a_number_of_its_own(names: list[str]) -> None:
    numbers, groups = number_names(names), group_names(names)
    assert set(numbers) == set(names)
    assert len(set(numbers.values())) == len(groups)
    assert all(len({numbers[form] for form in forms}) == 1 for forms in groups.values())
    assert all(0 <= number < 2**31 for number in numbers.values())
    assert numbers == number_names(reversed(names))


@pytest.mark.parametrize("name", ["-1", "-01", "-1.0", " -1 ", "\u22121", "-001", "00-1", "000-1"])
def test_junk(name: str) -> None:
    assert is_junk(name)


@pytest.mark.parametrize("name", ["1", "0000", "0-1", "-10", "-1a", "00-12", "10-1", "", "a-1"])
def test_what_is_no_junk(name: str) -> None:
    assert not is_junk(name)


@pytest.mark.parametrize("name", ["", "  ", "nan", "NaN", "None", "NULL", "null", "NA", "<NA>"])
def test_missing_values(name: str) -> None:
    assert is_missing(name)


@pytest.mark.parametrize("name", ["Nan", "Null", "Nancy", "0", "Nadia", "na"])
def test_people_with_such_names(name: str) -> None:
    assert not is_missing(name)


def test_notes() -> None:
    assert notes_on_names("person", ["1", "2", "0003"]) == []
    assert notes_on_names("person", ["ann", "bob"]) == []
    assert notes_on_names("camera", ["1", "1.0", "2", "02"]) == [
        "one camera is written '02' and '2'; so are 1 more"
    ]
    assert notes_on_names("person", ["07", "s7", "1,000"]) == [
        "1 persons are numbers and 2 are words, such as '07' and '1,000'; these are different "
        "persons"
    ]
    assert notes_on_names("person", ["Ann Lee", "ann lee", "AnnLee"]) == [
        "'Ann Lee' and 'AnnLee' and 'ann lee' are different persons, though only capitals or "
        "spaces differ"
    ]


def test_distractors_to_train_on_are_noted() -> None:
    for name in ("0000_c1s1_000151_01.jpg", "0000C1T0001F001.jpg"):
        (note,) = notes_on_distractors([Path("0001_c1.jpg"), Path("train", name)])
        assert note.startswith(f"{name} is to be trained on or searched for, but 0000 are distract")
    assert notes_on_distractors([Path("0001_c1.jpg"), Path("0000/a.jpg"), Path("0000.jpg")]) == []
