"""Visual dialog: questions and answers about one photo."""
