"""A table of answers on disk, written part by part, and the files that belong to its rows."""
