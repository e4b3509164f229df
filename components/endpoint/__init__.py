"""What the endpoint, its deployments and its clients agree on."""
