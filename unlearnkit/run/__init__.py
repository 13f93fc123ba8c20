"""One run, from folder to folder."""
