"""Making training pairs with language models."""
