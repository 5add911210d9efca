"""The commands beyond Lightning's own: one module each, with ``run(arguments) -> exit status``."""
