"""The findings of an audit, as typed objects."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """Severity; the worst is the smallest, so that findings sort by it."""

    ERROR = 0
    """``fit`` would refuse it, or its metrics would be wrong."""
    WARNING = 1
    """Training runs, but probably not as intended."""
    NOTE = 2
    """Useful to know."""


@dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Attributes:
        level: Its severity.
        what: A description, in one line.
        fix: How the user can fix it, in one line.
        where: All affected places: files, rows, columns.
    """

    level: Level
    what: str
    fix: str = ""
    where: tuple[str, ...] = ()

    def line(self) -> str:
        """Return description and fix in one line, as a note of ``fit``."""
        return f"{self.what}; {self.fix}" if self.fix else self.what


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, worst first, and in their original order within a level."""
    return sorted(findings, key=lambda finding: finding.level)
