"""The LightningModule and what its one step needs."""
