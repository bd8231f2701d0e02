"""Photo captioners: a vision encoder and a GPT-2 that looks at it; training, writing, measuring, comparing."""
