"""What is in the data before anything is trained: ``mtl-lightning inspect``, and notes of ``fit``.

``findings``    what an audit says: level, what, where, how to mend
``quick``       what labels alone say, which `fit` prints too; with ``odds`` and ``lookalikes``
``survey``      sources read so that one that is wrong does not hide the others
``contents``    copies of one file under several names: duplicates, leaks, conflicts
``pictures``    sizes, unreadable images, thumbnails
``report``      all of it about one config, as one object
``screen``, ``page``, ``sheet``  the report on a terminal, as HTML (with ``markup``), and samples as
                PNG; ``progress`` is the bar of what takes long
"""
