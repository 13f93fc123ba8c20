"""Sources of images that are files, at the address by which scripts know them."""

from unlearnkit.builtin.data import Archive, Folder, Manifest, Pictures

__all__ = ["Archive", "Folder", "Manifest", "Pictures"]
