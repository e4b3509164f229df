"""The search for the learning rate."""
