from .. import running  # noqa: F401  # makes the examples importable
