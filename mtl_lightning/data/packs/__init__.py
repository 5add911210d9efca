"""Merged data as shards, for one machine or many: what a pack is, writing one, reading one.

A pack is a folder, or as much of an object storage:

==================  ==============================================================================
``chunk-0-N.bin``   shards in litdata's format, an item an image: its file, byte for byte
``index.json``      litdata's own, so that `litdata.StreamingDataset` reads a pack as it is
``labels.parquet``  a row an image, in the order of the shards: ``image`` (its key), ``split``,
                    ``crc32`` of its bytes, and for each task (or ``task/label``) two columns:
                    ``label:TASK``, text or null, and ``mask:TASK``, whether there is a label
``pack.json``       which of our versions it is, its tasks, counts, checksums of the two above
==================  ==============================================================================

Whoever reads a pack runs nothing of it: items are bytes, in a layout that is checked, and what
`index.json` says of other kinds of items (litdata knows pickled ones) is refused.
"""
