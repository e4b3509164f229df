"""Model versions in MLflow: register, promote, roll back."""
