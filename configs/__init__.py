"""Run settings: one YAML file per run, checked against a pydantic schema before work starts."""
