"""Photo -> list[Detection]: faces with their feelings, and things."""
