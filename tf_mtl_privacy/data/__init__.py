"""Sources of faces, the prepared store, and batches."""

from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.labels import Labels
from tf_mtl_privacy.data.opening import open_dataset, open_store
from tf_mtl_privacy.data.sampling import ShuffledEpochs, prefetch

__all__ = [
    "Dataset",
    "Labels",
    "ShuffledEpochs",
    "open_dataset",
    "open_store",
    "prefetch",
]
