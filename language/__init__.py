"""ElementList -> Comment: the records, the one rendering, the rules and the writers."""
