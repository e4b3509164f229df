"""What a pipeline gets on its way to a cluster, and not on one machine: an exit handler, resources, pods, retries."""
