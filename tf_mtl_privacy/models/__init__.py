"""The networks: encoder E, business classifier B, discriminator D, restorer R."""

from tf_mtl_privacy.models.bundle import (
    Bundle,
    build_bundle,
    load_bundle_weights,
    parameter_counts,
    save_bundle,
)

__all__ = ["Bundle", "build_bundle", "load_bundle_weights", "parameter_counts", "save_bundle"]
