"""What goes wrong, as exceptions whose text says what is wrong, where, and how to mend it."""


class HalfInverseError(Exception):
    """Base of all exceptions that are the package's own."""


class SettingError(HalfInverseError, ValueError):
    """A setting that is refused: unknown, of another type, or out of range."""


class ShapeError(HalfInverseError, ValueError):
    """Arrays, or parts of a model, that do not fit together."""


class StepError(HalfInverseError, RuntimeError):
    """A step or a run that cannot be made: a loss that is not finite, a decomposition that does not converge."""
