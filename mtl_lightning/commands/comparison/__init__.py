"""``compare``: trains the variants of a config, measures each, and compares them.

``members`` are the trainings of a comparison, known before the first one starts; ``running`` runs
them as processes, which continue where they were killed. What their results say is computed in
`runs.comparison` and shown by `reports.comparison`.
"""
