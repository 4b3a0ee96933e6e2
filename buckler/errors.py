"""The five exceptions. A user's mistake raises one of them; the message says where, what value, and how to fix it."""


class BucklerError(Exception):
    """Anything a user can fix. The command line prints its message alone and leaves with status 2."""


class ConfigError(BucklerError, ValueError):
    """A recipe, an option or a name that is not understood."""


class DataError(BucklerError, ValueError):
    """A file or a row that cannot be read as what it should be."""


class BackendError(BucklerError, RuntimeError):
    """A model that cannot be loaded, reached, or asked for what is wanted of it."""


class StoreError(BucklerError, RuntimeError):
    """A run folder that cannot be read or written."""
