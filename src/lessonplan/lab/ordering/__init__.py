"""Perfect ordering over files: one row a run, resumed at the last finished tree, shared among processes."""

from lessonplan.lab.ordering.config import OrderingConfig
from lessonplan.lab.ordering.explain import explain_orders
from lessonplan.lab.ordering.recipe import reproduce_ordering
from lessonplan.lab.ordering.search import search_orderings

__all__ = ["OrderingConfig", "explain_orders", "reproduce_ordering", "search_orderings"]
