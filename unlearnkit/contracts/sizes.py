"""Sizes of images."""

Size = int | tuple[int, int]
"""The side of square images, or height and width of others, in pixels."""


def sides(size: Size) -> tuple[int, int]:
    """Return height and width."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def told(size: Size) -> str:
    """Return a size as messages say it, such as `64 px` or `48 x 64 px`."""
    return f"{size} px" if isinstance(size, int) else f"{size[0]} x {size[1]} px"
