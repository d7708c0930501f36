"""Text of strangers as a terminal may show it."""


def plain(text: str) -> str:
    """The text with every control character replaced, so that it cannot move the cursor, forge a line or recolour."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
