"""Steps whose number is not known when the work begins."""

from jaxrt.converters.seams import Steps


class Counted:
    """Passes steps on, and takes more of them on the way."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._total = 0

    def total(self, steps: int) -> None:
        self._total = steps
        self._steps.total(steps)

    def more(self, steps: int) -> None:
        """So many beside those that were announced."""
        self.total(self._total + steps)

    def step(self, text: str) -> None:
        self._steps.step(text)


def announce(steps: Steps, more: int) -> None:
    """So many beside those that were announced, where somebody counts."""
    if isinstance(steps, Counted):
        steps.more(more)
