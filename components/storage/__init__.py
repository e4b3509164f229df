"""Object stores: a local folder or S3, behind one interface.

>>> store = open_store("s3://cultures/plant-1")
>>> store.create("notes/today.txt", b"medium changed")
True
"""

from components.storage.base import Data, ObjectInfo, ObjectReader, ObjectStore
from components.storage.local import LocalStore, storage_errors
from components.storage.opening import open_store

__all__ = ["Data", "LocalStore", "ObjectInfo", "ObjectReader", "ObjectStore", "open_store", "storage_errors"]
