"""A run on disk and in processes: folder, checkpoints, loggers, ranks."""
