"""Numbers in, a matplotlib figure out; these modules know nothing of training or files.

They import matplotlib, so they are imported where something is drawn and not before.
"""
