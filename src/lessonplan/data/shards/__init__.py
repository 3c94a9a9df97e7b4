"""Sets in many large files: found by a pattern, indexed once, read a sample at a time and never unpacked."""
