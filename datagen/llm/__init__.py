"""Talking to language models: providers, the journal that keeps every reply, limits, and the loop that asks."""
