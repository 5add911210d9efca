"""The machine and the process: errors, files, hardware, progress, seeding, strategy."""
