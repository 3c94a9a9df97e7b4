"""What the best orders of a stored search have in common, and whether that foretells good ones."""

from lessonplan.lab.ordering.explain.explaining import explain_orders

__all__ = ["explain_orders"]
