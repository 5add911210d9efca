"""From data to a config: what ``mtl-lightning init`` proposes, and how it is written.

``columns``    what the cells of a column are: classes, numbers, yes or no, names, or nothing
``tables``     of a table: where its images are, its splits, its groups, columns for tasks
``folders``    of a folder: classes, splits of classes, tables, or images without labels
``questions``  columns and classes as tasks
``propose``    all of it, as tasks, sources and settings that fit
``writing``    the same as commented YAML
"""
