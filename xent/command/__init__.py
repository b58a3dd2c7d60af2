"""The ``xent`` command."""
