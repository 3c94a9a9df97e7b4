"""Look-ahead: what a step with each candidate would bring."""
