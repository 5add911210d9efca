"""Findings about data before anything is trained: ``mtl-lightning inspect``, and notes of ``fit``.

``findings``      one finding: level, what, how to fix it, where
``label_checks``  findings from the labels alone, which ``fit`` prints too; with ``absence_odds``,
                  ``lookalikes`` and ``sides``
``label_counts``  labelled images by source, task and split
``survey``        sources read so that one that is wrong does not hide the others
``copies``        copies of one image under several names: duplicates, leaks, conflicts
``shapes``        the shapes of images compared with the network's input
``images``        sizes, unreadable images, thumbnails
``report``        the whole audit of one config, as one object
"""
