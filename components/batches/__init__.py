"""New batches of images: found when they are complete, claimed once, taken in, and admitted to their lineage."""
