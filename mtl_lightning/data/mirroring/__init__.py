"""Mirrored images, and the labels that name a side of them."""
