"""Rolling a released model out to the endpoint."""
