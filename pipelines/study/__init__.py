"""The study: the paper's cross-validation over backbones, modalities and protocols, and its tables."""
