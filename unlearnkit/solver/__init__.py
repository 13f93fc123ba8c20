"""The method; it knows no folder."""
