"""Backbones, classifier head and ONNX export."""
