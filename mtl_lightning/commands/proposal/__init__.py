"""The proposal of ``mtl-lightning init``: a config from data, and its text.

``columns``     the kind of a column by its cells: classes, numbers, yes or no, names, or nothing
``tables``      the image column of a table, its splits, its groups, columns for tasks
``folders``     the content of a folder: classes, splits of classes, tables, or bare images
``downloads``   public data sets as downloaded
``inspection``  paths as tables, folders and downloads
``task_plans``  columns and classes as tasks
``sources``     tables, folders and downloads as the sources that read them
``propose``     tasks, sources and settings that fit
``writing``     the proposal as commented YAML
"""
