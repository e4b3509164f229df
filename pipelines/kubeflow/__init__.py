"""Kubeflow Pipelines, asked through its REST API: uploading, running, following, scheduling."""
