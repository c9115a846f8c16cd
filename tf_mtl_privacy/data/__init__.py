"""Data sets: sources of pictures and labels, prepared stores, and batches.

`opening.py` opens the data set of a configuration; `sources/base.py` describes and registers
sources.
"""

from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.labels import Labels
from tf_mtl_privacy.data.opening import open_dataset, open_store
from tf_mtl_privacy.data.sampling import ShuffledEpochs, prefetch
from tf_mtl_privacy.data.sources.base import DataSource, LabelTable, Pictures, register_source

__all__ = [
    "DataSource",
    "Dataset",
    "LabelTable",
    "Labels",
    "Pictures",
    "ShuffledEpochs",
    "open_dataset",
    "open_store",
    "prefetch",
    "register_source",
]
