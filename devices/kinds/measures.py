"""Measures that several kinds share, each with its range."""

from typing import Annotated

from msgspec import Meta

Text = Annotated[str, Meta(max_length=256)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Celsius = Annotated[float, Meta(ge=-40, le=200)]
Count = Annotated[int, Meta(ge=0)]
LinkQuality = Annotated[int, Meta(ge=0, le=255)]
