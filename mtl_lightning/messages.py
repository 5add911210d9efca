"""jsonargparse's error messages, in one line."""

import re
from collections.abc import Iterable

from mtl_lightning.errors import did_you_mean


def short_message(message: str, options: Iterable[str]) -> str:
    """Return the one line of a parser's message that helps.

    Args:
        message: What the parser says: a key, nested reasons, sometimes pages of usage.
        options: The option strings that the parser knows.
    """
    unknown = re.search(r"[Uu]nrecognized arguments?:\s*(\S+)", message)
    if unknown:
        flag = unknown.group(1).partition("=")[0]
        return f"{flag}: no such option{did_you_mean(flag, options)}"
    lines = [" ".join(line.split()) for line in message.splitlines() if line.strip()]
    key = re.search(r"[Kk]ey ['\"]?([\w.\[\]-]+)", message)
    given = re.search(r"Given value(?: type: [^\n]*)?\s*:?\s*([^\n]*)", message)
    reasons = [line.lstrip("- ") for line in lines if line.startswith("- ")]
    if key and reasons:
        found = f". Found {given.group(1)}" if given and given.group(1) else ""
        return f"{key.group(1)}: {'; or '.join(dict.fromkeys(reasons))}{found}"
    return " ".join(lines)
