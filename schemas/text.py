"""What the contract says about texts (section 3): which of them are blank."""

from typing import Final

# The code points with Unicode's property White_Space. Python's `str.isspace` also has U+001C to U+001F, which Unicode has not.
WHITE_SPACE: Final = (
    "\u0009\u000a\u000b\u000c\u000d\u0020\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def is_blank(text: str) -> bool:
    """Whether a text is empty once white space at its ends is gone."""
    return text == "" or (
        text.isspace() and not text.strip(WHITE_SPACE)
    )  # the first of the two is fast, and says no mostly
