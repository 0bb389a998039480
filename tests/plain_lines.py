"""What a pipe or a file gets."""


def is_plain(text: str) -> bool:
    """Return whether no line has a frame, a colour or blanks at its end."""
    drawn = any("\u2500" <= letter <= "\u259f" or letter == "\x1b" for letter in text)
    return not drawn and all(line == line.rstrip() for line in text.splitlines())
