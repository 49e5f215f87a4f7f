"""How what was sent was answered, how much of it went through the door, and what of that may not be."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

# The sandbox is there for `decoder_died` and `decode_timeout`, which cost one image; these are our own failures.
_NEVER: Final = ("no answer", "image_lost", "model_output", "worker_died")
_READ: Final = "classified"


@dataclass
class Tally:
    """A door that refuses everything breaks nothing: with fewer let through, or read, than these shares, a run shows little."""

    what: str
    least_through: float
    least_read: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    through: int = 0

    def add(self, answers: Counter[str], *, refused: int) -> None:
        """Count answers; the door refused so many, and the others are for a decoding child."""
        self.answers += answers
        self.through += answers.total() - refused

    @property
    def read(self) -> int:
        """How many a decoding child could read, so that gate and model were asked."""
        return sum(number for answer, number in self.answers.items() if answer.startswith(_READ))

    def problems(self) -> Iterator[str]:
        """Yield what should not have happened."""
        total = self.answers.total()
        for answer in _NEVER:
            if self.answers[answer]:
                yield f"{self.answers[answer]:,} of {total:,} {self.what}: {answer}"
        for number, least, done in (
            (self.through, self.least_through, "let in"),
            (self.read, self.least_read, "read"),
        ):
            if number < least * total:
                yield f"{number:,} of {total:,} {self.what} were {done}, fewer than {least:.0%}: what broke the door?"

    def rows(self) -> Iterator[str]:
        """Yield rows of a table in Markdown: of what, the answer, how many."""
        for answer, number in self.answers.most_common():
            yield f"| {self.what} | {answer} | {number:,} |"
        yield f"| {self.what} | *let in at the door* | {self.through:,} of {self.answers.total():,} |"
