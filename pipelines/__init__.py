"""The KFP pipelines, their runners and the command line."""
