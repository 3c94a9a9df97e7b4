"""Result folders in object stores: a URL in place of a folder, by fsspec.

Work is done in a local copy of what the URL holds, and what is finished there is sent: ``opened`` for those who
write, ``fetched`` for those who read.
"""

from lessonplan.stores.address import at, is_url
from lessonplan.stores.copy import mark_of
from lessonplan.stores.opening import Location, in_place, opened
from lessonplan.stores.reading import fetched, somebody_at_work

__all__ = ["Location", "at", "fetched", "in_place", "is_url", "mark_of", "opened", "somebody_at_work"]
