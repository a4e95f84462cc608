"""The one exception a user is meant to see."""


class MpoxError(Exception):
    """A problem the user can solve: its message is one sentence that says what to do.

    The command line prints it without a traceback and exits with status 1; in a notebook it is the last line
    of the traceback.
    """


class TooFewImages(MpoxError):
    """A data set is too small for an experiment: a chapter may say so and go on."""


class Unwritable(MpoxError):
    """A folder cannot be written: what else would be written there fails, too, so nothing more is begun."""


class WeightsMissing(MpoxError):
    """The pretrained weights of a backbone cannot be had here: a table may say so in a row and go on."""
