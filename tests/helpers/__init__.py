"""What tests build on: data, models, trainings, pairs of ranks."""
