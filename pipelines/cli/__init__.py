"""The command line. Its modules import nothing heavy: torch, mlflow, kserve and kfp load when a command needs them."""

from pipelines.cli.main import main

__all__ = ["main"]
