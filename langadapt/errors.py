"""What a user can do something about. Everything else is a bug and shows its traceback."""


class LangadaptError(Exception):
    """One clear line: what is wrong, where, and the way out. The command line prints it and exits with 2."""


class RecipeError(LangadaptError):
    """A recipe is missing, unreadable or says something that it may not say."""


class DataError(LangadaptError):
    """A data file or a row of it cannot be used."""


class MissingDataError(DataError):
    """Data that a recipe names are not on this machine; the line says how to get them."""


class ModelError(LangadaptError):
    """A base model or an artifact cannot be loaded or does not fit."""


class TrainingError(LangadaptError):
    """A run cannot go on: a loss that is not finite, a changed recipe in a run folder."""


class PublishError(LangadaptError):
    """A run may not be published, or the Hub does not take it."""


class LangadaptWarning(UserWarning):
    """Something was not as it should be and was mended: one line says what, and what was done."""
