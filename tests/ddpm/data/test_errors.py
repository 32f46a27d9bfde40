"""The user's errors: one line, naming the argument, its value and what is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.errors import InputError, check


@given(message=st.text(st.characters(exclude_characters="\\")))
def test_message_is_one_line_with_the_same_words(message: str) -> None:
    shown = str(InputError(message))
    assert len(shown.splitlines()) <= 1
    assert shown.isprintable()
    read = shown.encode("ascii", "backslashreplace").decode("unicode_escape")
    assert read == " ".join(message.split())
    assert str(InputError(shown)) == shown


@given(argument=st.from_regex(r"[a-z]+", fullmatch=True), value=st.integers() | st.text())
def test_check_names_argument_value_and_what_is_allowed(argument: str, value: object) -> None:
    check(True, argument, value, "anything")
    with pytest.raises(InputError) as caught:
        check(False, argument, value, "1 or more")
    message = str(caught.value)
    assert message.startswith(f"{argument} = ")
    assert message.endswith(": allowed is 1 or more")
    assert " ".join(repr(value).split()) in message


def test_input_error_is_a_value_error() -> None:
    assert issubclass(InputError, ValueError)
