"""Configs as plain values: flags, YAML, annotations, untrusted values. Knows no module."""
