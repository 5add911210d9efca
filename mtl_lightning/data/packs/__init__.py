"""Merged data as shards, for one machine or many: reading packs, which `data.packing` writes.

A pack is a folder, on a disk or in an object store:

===================  =============================================================================
``shard-NNNNN.bin``  the images of some rows, one file after another, byte for byte
``labels.parquet``   one row per image, in the order of the shards: ``image`` (its key), ``split``,
                     ``shard`` (the number of its shard), ``size`` and ``crc32`` of its bytes, and
                     for each task (or ``task/label``) two columns: ``label:TASK``, text or null,
                     and ``mask:TASK``, whether there is a label
``pack.json``        the version of the format, the tasks, some counts, the size and SHA-256 of
                     ``labels.parquet``
===================  =============================================================================

Reading a pack runs no code from it: it holds only numbers, texts and images, and the names of its
files are fixed, so that none can lead out of the folder.
"""
