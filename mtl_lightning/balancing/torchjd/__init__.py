"""Adapters of TorchJD's methods."""
