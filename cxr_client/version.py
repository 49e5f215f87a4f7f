"""The version of the client; it is that of the server which it was made for."""

from typing import Final

VERSION: Final = "0.1.0"
