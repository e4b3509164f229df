"""The KServe predictor; nothing here imports torch."""
