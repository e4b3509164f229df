"""A new batch held against its lineage and the champion, before anything is learnt from it."""
