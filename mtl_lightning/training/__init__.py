"""The LightningModule and what its step needs."""
