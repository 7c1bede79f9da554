"""Errors that a user can mend; the command line turns each into one message and an exit code."""


class InputError(ValueError):
    """What the user gave cannot be used: names the value, what was possible and the fix."""


class RuntimeUnavailable(InputError):
    """An SDK is not installed, or does not run here: names what to install."""


class NothingMeasured(RuntimeError):
    """The measurement ended without a number: worker died, hung, or the device is unfit."""
