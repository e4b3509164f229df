"""What mscflow's pipelines are made of: one folder a step, and the modules they share."""
