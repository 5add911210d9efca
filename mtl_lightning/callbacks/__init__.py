"""What happens beside the training: tables, files, checkpoints."""
