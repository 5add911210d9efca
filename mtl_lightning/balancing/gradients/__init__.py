"""The exact step of a method that reads the tasks' gradients."""
