"""What things are called in documents."""

from typing import Annotated, Final

from pydantic import Field

INT64_MAX: Final = (1 << 63) - 1

Name = Annotated[str, Field(max_length=256)]
SampleId = Annotated[str, Field(max_length=256)] | Annotated[int, Field(le=INT64_MAX)]
