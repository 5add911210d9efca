"""What an audit has to say: one typed object for each thing that is wrong or worth knowing."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad it is; the worst is the least, so that findings sort by it."""

    ERROR = 0
    """``fit`` would refuse it, or what it prints would be wrong."""
    WARNING = 1
    """Training runs, and something about it is probably not what was meant."""
    NOTE = 2
    """Worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Attributes:
        level: How bad it is.
        what: What it is, in one line.
        mend: What the user can do about it, in one line.
        where: Each place of it: files, rows, columns; as many as there are.
    """

    level: Level
    what: str
    mend: str = ""
    where: tuple[str, ...] = ()

    def line(self) -> str:
        """Return what it is and how to mend it, as a note of ``fit`` says it."""
        return f"{self.what}; {self.mend}" if self.mend else self.what


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, the worst first; of one level in the order in which they were found."""
    return sorted(findings, key=lambda finding: finding.level)
