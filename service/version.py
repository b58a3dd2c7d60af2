"""The version of what is installed."""

from typing import Final

VERSION: Final = "0.1.0"
