"""Solutions to figures and pictures."""
