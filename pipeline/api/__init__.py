"""The HTTP service behind `python -m pipeline.serve`."""
