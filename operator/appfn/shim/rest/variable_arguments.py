"""What a variable may be called and hold, pure."""

import re
import secrets

from appfn.shim.errors import invalid_argument

MAX_KEY = 255
MAX_VALUE = 8192
MAX_VARIABLES = 100
_ID_BYTES = 10
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)


def new_id() -> str:
    """Return the id of a new variable."""
    return secrets.token_hex(_ID_BYTES)


def is_name(text: str) -> bool:
    """Tell whether a variable may have this name."""
    return _NAME.fullmatch(text) is not None


def checked_value(text: str) -> str:
    """Return the value of a variable.

    Raises:
        AppwriteError: general_argument_invalid, without the value.
    """
    if len(text) > MAX_VALUE or "\0" in text:
        reason = f"Value must be a valid string and at most {MAX_VALUE} chars long, without NUL characters"
        raise invalid_argument("value", reason)
    return text


def checked_name(text: str) -> str:
    """Return the name of a variable.

    Raises:
        AppwriteError: general_argument_invalid.
    """
    if not is_name(text):
        raise invalid_argument("key", "Value must have letters, digits and underscores only, the first no digit")
    return text
