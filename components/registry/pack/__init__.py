"""The evidence pack: all that the release of a model version rests on, for people and for machines."""
